"""JavaScript (with JSX), TypeScript and TSX."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_COMMON = """
[(function_declaration) (generator_function_declaration) (function_expression name: (_)) (method_definition)] @function
(variable_declarator name: (identifier) value: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression left: [(identifier) (member_expression)]
  right: [(arrow_function) (function_expression) (generator_function)]) @function
(pair key: (_) value: [(arrow_function) (function_expression)]) @function
[(class_declaration) (class name: (_))] @class
(variable_declarator name: (identifier) value: (class)) @class
(assignment_expression left: [(identifier) (member_expression)] right: (class)) @class
(program (lexical_declaration (variable_declarator name: (identifier)) @variable))
(program (variable_declaration (variable_declarator name: (identifier)) @variable))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier)) @variable)))
(decorator) @lead
(call_expression function: [(identifier) @call (member_expression property: (property_identifier) @call)])
(new_expression constructor: [(identifier) @call (member_expression property: (property_identifier) @call)])
[(import_statement) (export_statement source: (_))] @import
(call_expression function: (identifier) @_require arguments: (arguments . (string)) (#eq? @_require "require")) @import
(call_expression function: (import) arguments: (arguments . (string))) @import
(comment) @comment
[(string) (template_string)] @string
[(if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement) (switch_case) (catch_clause)
 (ternary_expression)] @branch
(binary_expression operator: ["&&" "||" "??"]) @branch
(ERROR) @error
"""
_JSX = """
(jsx_opening_element name: [(identifier) @call (member_expression property: (property_identifier) @call)])
(jsx_self_closing_element name: [(identifier) @call (member_expression property: (property_identifier) @call)])
"""
_JAVASCRIPT = """
(class_heritage [(identifier) @inherit (member_expression property: (property_identifier) @inherit)])
(field_definition property: (_) value: [(arrow_function) (function_expression)]) @function
"""
_TYPESCRIPT = """
(extends_clause value: [(identifier) @inherit (member_expression property: (property_identifier) @inherit)])
(implements_clause [(type_identifier) @inherit (generic_type name: (type_identifier) @inherit)])
(extends_type_clause [(type_identifier) @inherit (generic_type name: (type_identifier) @inherit)])
(public_field_definition name: (_) value: [(arrow_function) (function_expression)]) @function
[(function_signature) (method_signature) (abstract_method_signature)] @function
(abstract_class_declaration) @class
(interface_declaration) @interface
(enum_declaration) @enum
(type_alias_declaration) @type_alias
(internal_module) @namespace
(module name: (_)) @namespace
(type_annotation (type_identifier) @type)
(type_annotation (generic_type name: (type_identifier) @type))
(type_arguments (type_identifier) @type)
(union_type (type_identifier) @type)
(array_type (type_identifier) @type)
(nested_type_identifier name: (type_identifier) @type)
"""
_SOURCE = re.compile(r"(?:from|import|require)\s*\(?\s*['\"]([^'\"\n]+)['\"]")
_BRACES = re.compile(r"\{([^}]*)\}")
_DEFAULT = re.compile(r"import\s+(?:type\s+)?(?:\*\s+as\s+)?([A-Za-z_$][\w$]*)")


def _name_of(node: Node) -> Node | str | None:
    for field in ("name", "left", "key", "property"):
        named = node.child_by_field_name(field)
        if named is not None:
            break
    else:
        return None
    if named.type == "member_expression":
        return named.child_by_field_name("property")
    if named.type in ("string", "computed_property_name"):
        text = (named.text or b"").decode("utf-8", "replace")
        return text.strip("'\"[]")
    return named


def _body_of(node: Node) -> Node | None:
    body = node.child_by_field_name("body")
    if body is not None:
        return body
    value = node.child_by_field_name("value") or node.child_by_field_name("right")
    return value.child_by_field_name("body") if value is not None else None


def _imports_of(_: Node, text: str) -> Iterator[Imported]:
    source = _SOURCE.search(text)
    if source is None:
        return
    names: list[str] = []
    head = text[: source.start()]
    default = _DEFAULT.match(head)
    if default and default[1] not in ("from", "type"):
        names.append(default[1])
    for braces in _BRACES.finditer(head):
        names += [
            part.split()[1 if part.split()[0] == "type" and len(part.split()) > 1 else 0]
            for part in braces[1].split(",")
            if part.strip()
        ]
    yield source[1], tuple(names)


JAVASCRIPT = Dialect(
    "javascript",
    "tree_sitter_javascript",
    _COMMON + _JSX + _JAVASCRIPT,
    name_of=_name_of,
    imports_of=_imports_of,
    body_of=_body_of,
)
TYPESCRIPT = Dialect(
    "typescript",
    "tree_sitter_typescript",
    _COMMON + _TYPESCRIPT,
    factory="language_typescript",
    name_of=_name_of,
    imports_of=_imports_of,
    body_of=_body_of,
)
TSX = Dialect(
    "tsx",
    "tree_sitter_typescript",
    _COMMON + _JSX + _TYPESCRIPT,
    factory="language_tsx",
    name_of=_name_of,
    imports_of=_imports_of,
    body_of=_body_of,
)
