"""What a report can be asked for."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any, cast

from apps.usage.reports import UsageQuery, usage_report


def test_the_last_day_that_there_is_can_be_asked_for() -> None:
    user = cast(Any, SimpleNamespace(is_staff=True))
    assert "started_at" not in str(usage_report(user=user, query=UsageQuery(last=datetime.date.max)).query.where)
