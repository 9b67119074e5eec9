"""C and C++. What a macro hides the grammar can't see: errors are common here, and the rest is still read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_C = """
(function_definition declarator: (_)) @function
(translation_unit (declaration declarator: (function_declarator)) @function)
(struct_specifier name: (_) body: (_)) @struct
(union_specifier name: (_) body: (_)) @struct
(enum_specifier name: (_) body: (_)) @enum
(type_definition) @type_alias
(preproc_def) @macro
(preproc_function_def) @macro
(translation_unit (declaration declarator: (init_declarator)) @variable)
(call_expression function: [(identifier) @call (field_expression field: (field_identifier) @call)])
(parameter_declaration type: (type_identifier) @type)
(declaration type: (type_identifier) @type)
(field_declaration type: (type_identifier) @type)
(function_definition type: (type_identifier) @type)
(sizeof_expression type: (type_descriptor type: (type_identifier) @type))
(cast_expression type: (type_descriptor type: (type_identifier) @type))
(preproc_include) @import
(comment) @comment
[(string_literal) (concatenated_string)] @string
[(if_statement) (for_statement) (while_statement) (do_statement) (case_statement) (conditional_expression)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(ERROR) @error
"""
_CPP = """
(class_specifier name: (_) body: (_)) @class
(namespace_definition) @namespace
(alias_declaration) @type_alias
(concept_definition) @type_alias
(field_declaration_list (field_declaration declarator: (function_declarator)) @function)
(field_declaration_list (declaration declarator: (function_declarator)) @function)
(declaration_list (declaration declarator: (function_declarator)) @function)
(template_parameter_list) @lead
(call_expression function: [(qualified_identifier name: (identifier) @call)
  (template_function name: (identifier) @call)
  (qualified_identifier name: (template_function name: (identifier) @call))
  (field_expression field: (template_method name: (field_identifier) @call))])
(new_expression type: (type_identifier) @call)
(base_class_clause [(type_identifier) @inherit (qualified_identifier name: (type_identifier) @inherit)
  (template_type name: (type_identifier) @inherit)])
(template_argument_list (type_descriptor type: (type_identifier) @type))
[(catch_clause) (for_range_loop)] @branch
(using_declaration) @import
(raw_string_literal) @string
"""
_INCLUDE = re.compile(r"#\s*(?:include|import)\s*[<\"]([^>\"\n]+)[>\"]")
_USING = re.compile(r"using\s+(?:namespace\s+)?([\w:]+)")
_QUALIFIED = frozenset({"qualified_identifier", "template_function", "template_type", "template_method"})
_DEEP = 12


def _name_of(node: Node) -> Node | str | None:
    """The name at the bottom of a declarator: ``*f(int)`` declares f, ``A::B::f()`` is f of A.B."""
    named = node.child_by_field_name("declarator") or node.child_by_field_name("name")
    for _ in range(_DEEP):
        if named is None:
            return None
        inner = named.child_by_field_name("declarator")
        if inner is None and named.type in ("reference_declarator", "parenthesized_declarator"):
            inner = named.named_children[0] if named.named_children else None
        if inner is not None:
            named = inner
        elif named.type in _QUALIFIED:
            named = named.child_by_field_name("name")
        else:
            return named
    return None


def _owner_of(node: Node) -> str:
    """What ``A::B::f`` is a part of: A.B."""
    named = node.child_by_field_name("declarator")
    for _ in range(_DEEP):
        if named is None:
            return ""
        if named.type == "qualified_identifier":
            text = (named.text or b"").decode("utf-8", "replace")
            scope = re.sub(r"<[^<>]*>", "", text).split("(")[0].split("::")[:-1]
            return ".".join(part.strip() for part in scope if part.strip())
        inner = named.child_by_field_name("declarator")
        if inner is None and named.type == "reference_declarator":
            inner = named.named_children[0] if named.named_children else None
        named = inner
    return ""


def _imports_of(_: Node, text: str) -> Iterator[Imported]:
    match = _INCLUDE.match(text) or _USING.match(text)
    if match:
        yield match[1], ()


C = Dialect("c", "tree_sitter_c", _C, name_of=_name_of, imports_of=_imports_of)
CPP = Dialect("cpp", "tree_sitter_cpp", _C + _CPP, name_of=_name_of, imports_of=_imports_of, owner_of=_owner_of)
