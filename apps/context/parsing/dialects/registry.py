"""All languages that are parsed."""

from __future__ import annotations

from apps.context.parsing.dialects.base import Dialect
from apps.context.parsing.dialects.python import PYTHON

DIALECTS: dict[str, Dialect] = {dialect.language: dialect for dialect in (PYTHON,)}
