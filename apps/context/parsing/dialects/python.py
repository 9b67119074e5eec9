"""Python."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_QUERY = """
(function_definition) @function
(class_definition) @class
(module (expression_statement (assignment left: (identifier)) @variable))
(class_definition body: (block (expression_statement (assignment left: (identifier)) @variable)))
(decorator) @lead
(decorator [(identifier) @call (attribute attribute: (identifier) @call)])
(call function: [(identifier) @call (attribute attribute: (identifier) @call)])
(class_definition superclasses: (argument_list [(identifier) @inherit (attribute attribute: (identifier) @inherit)]))
(type [(identifier) @type (attribute attribute: (identifier) @type)])
(type (generic_type (identifier) @type))
(type (binary_operator [(identifier) @type (attribute attribute: (identifier) @type)]))
[(import_statement) (import_from_statement) (future_import_statement)] @import
(comment) @comment
(string) @string
(module . (comment)* . (expression_statement (string) @doc))
(function_definition body: (block . (expression_statement (string) @doc)))
(class_definition body: (block . (expression_statement (string) @doc)))
[(if_statement) (elif_clause) (for_statement) (while_statement) (except_clause) (boolean_operator)
 (conditional_expression) (case_clause) (for_in_clause) (if_clause)] @branch
(ERROR) @error
"""
_FROM = re.compile(r"from\s*([.\w\s]+?)\s*import\s*(.*)", re.DOTALL)


def _name_of(node: Node) -> Node | None:
    return node.child_by_field_name("left" if node.type == "assignment" else "name")


def _names(text: str) -> Iterator[str]:
    for part in re.sub(r"#[^\n]*|[()\\]", " ", text).split(","):
        words = part.split()
        if words:
            yield words[0]


def _imports_of(_: Node, text: str) -> Iterator[Imported]:
    match = _FROM.match(text)
    if match:
        yield "".join(match[1].split()), tuple(_names(match[2]))
    else:
        for name in _names(text.removeprefix("import")):
            yield name, ()


PYTHON = Dialect("python", "tree_sitter_python", _QUERY, name_of=_name_of, imports_of=_imports_of)
