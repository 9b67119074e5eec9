"""Reading ``ARCHON_PROVIDER_LIMITS``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured

_FORM = re.compile(r"(?P<requests>[0-9]{1,9})?(?:/(?P<tokens>[0-9]{1,12})?)?")


def provider_limits(written: Mapping[str, str]) -> dict[str, tuple[int | None, int | None]]:
    """Requests and tokens a minute, by provider or pattern of ``provider:model``; None: no limit.

    Raises ImproperlyConfigured for what is not written ``requests/tokens``.
    """
    found = {}
    for name, text in written.items():
        match = _FORM.fullmatch(text.strip())
        requests, tokens = match.groups() if match else (None, None)
        numbers = (int(requests) if requests else None, int(tokens) if tokens else None)
        if not name.strip() or numbers == (None, None) or 0 in numbers:
            raise ImproperlyConfigured(
                f"ARCHON_PROVIDER_LIMITS: {name}={text} is no limit; write PROVIDER=REQUESTS/TOKENS, both a minute and"
                " above 0 (one of them may be left out: 50/ or /40000), separated by commas"
            )
        found[name.strip()] = numbers
    return found
