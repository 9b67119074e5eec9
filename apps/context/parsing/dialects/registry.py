"""All languages that are parsed."""

from __future__ import annotations

from apps.context.parsing.dialects.base import Dialect
from apps.context.parsing.dialects.c_family import CPP, C
from apps.context.parsing.dialects.compiled import GO, RUST, SWIFT
from apps.context.parsing.dialects.documents import CSS, HTML, JSON, MARKDOWN, TOML, YAML
from apps.context.parsing.dialects.javascript import JAVASCRIPT, TSX, TYPESCRIPT
from apps.context.parsing.dialects.jvm import CSHARP, JAVA, KOTLIN, SCALA
from apps.context.parsing.dialects.python import PYTHON
from apps.context.parsing.dialects.scripting import BASH, PHP, RUBY, SQL

DIALECTS: dict[str, Dialect] = {
    dialect.language: dialect
    for dialect in (
        *(PYTHON, JAVASCRIPT, TYPESCRIPT, TSX, GO, RUST, JAVA, C, CPP, CSHARP, RUBY, PHP, KOTLIN, SWIFT, SCALA, BASH),
        *(SQL, HTML, CSS, MARKDOWN, YAML, TOML, JSON),
    )
}
