"""Go, Rust and Swift."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_GO = """
[(function_declaration) (method_declaration)] @function
(type_spec type: (struct_type)) @struct
(type_spec type: (interface_type)) @interface
(type_spec type: [(type_identifier) (function_type) (map_type) (slice_type) (pointer_type) (channel_type)
  (qualified_type) (array_type) (generic_type)]) @type_alias
(type_alias) @type_alias
(interface_type (method_elem) @function)
(source_file (const_declaration (const_spec) @constant))
(source_file (var_declaration (var_spec) @variable))
(source_file (var_declaration (var_spec_list (var_spec) @variable)))
(call_expression function: [(identifier) @call (selector_expression field: (field_identifier) @call)])
(composite_literal type: [(type_identifier) @call (qualified_type name: (type_identifier) @call)])
(field_declaration !name type: [(type_identifier) @inherit (qualified_type name: (type_identifier) @inherit)
  (pointer_type (type_identifier) @inherit)])
(parameter_declaration type: [(type_identifier) @type (qualified_type name: (type_identifier) @type)])
(pointer_type [(type_identifier) @type (qualified_type name: (type_identifier) @type)])
(field_declaration type: [(type_identifier) @type (qualified_type name: (type_identifier) @type)])
(function_declaration result: (type_identifier) @type)
(method_declaration result: (type_identifier) @type)
(slice_type element: [(type_identifier) @type (qualified_type name: (type_identifier) @type)])
(import_spec) @import
(comment) @comment
[(interpreted_string_literal) (raw_string_literal)] @string
[(if_statement) (for_statement) (expression_case) (type_case) (communication_case)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(ERROR) @error
"""
_RUST = """
[(function_item) (function_signature_item)] @function
(struct_item) @struct
(union_item) @struct
(enum_item) @enum
(trait_item) @trait
(impl_item) @impl
(mod_item) @module
(type_item) @type_alias
(macro_definition) @macro
[(const_item) (static_item)] @constant
(attribute_item) @lead
(call_expression function: [(identifier) @call (field_expression field: (field_identifier) @call)
  (scoped_identifier name: (identifier) @call)
  (generic_function function: [(identifier) @call (scoped_identifier name: (identifier) @call)
    (field_expression field: (field_identifier) @call)])])
(macro_invocation macro: [(identifier) @call (scoped_identifier name: (identifier) @call)])
(struct_expression name: [(type_identifier) @call (scoped_type_identifier name: (type_identifier) @call)])
(impl_item trait: [(type_identifier) @inherit (generic_type type: (type_identifier) @inherit)
  (scoped_type_identifier name: (type_identifier) @inherit)])
(trait_bounds [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(parameter type: [(type_identifier) @type (reference_type type: (type_identifier) @type)])
(type_arguments (type_identifier) @type)
(field_declaration type: [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(function_item return_type: [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(scoped_identifier path: (identifier) @type (#match? @type "^[A-Z]"))
[(use_declaration) (extern_crate_declaration)] @import
[(line_comment) (block_comment)] @comment
[(string_literal) (raw_string_literal)] @string
[(if_expression) (for_expression) (while_expression) (loop_expression) (match_arm) (try_expression)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(ERROR) @error
"""
_SWIFT = """
[(function_declaration) (protocol_function_declaration) (init_declaration) (deinit_declaration)] @function
(class_declaration declaration_kind: "struct") @struct
(class_declaration declaration_kind: "enum") @enum
(class_declaration) @class
(protocol_declaration) @interface
(typealias_declaration) @type_alias
(source_file (property_declaration) @variable)
(call_expression . [(simple_identifier) @call (navigation_expression suffix: (navigation_suffix
  suffix: (simple_identifier) @call))])
(inheritance_specifier inherits_from: (user_type (type_identifier) @inherit))
(type_annotation (user_type (type_identifier) @type))
(parameter type: (user_type (type_identifier) @type))
(import_declaration) @import
[(comment) (multiline_comment)] @comment
[(line_string_literal) (multi_line_string_literal)] @string
[(if_statement) (guard_statement) (for_statement) (while_statement) (repeat_while_statement) (switch_entry)
 (catch_block)
 (ternary_expression) (conjunction_expression) (disjunction_expression)] @branch
(ERROR) @error
"""
_RECEIVER = re.compile(r"([A-Za-z_]\w*)\s*(?:\[[^\]]*\])?\s*\)\s*$")
_GO_IMPORT = re.compile(r"\"([^\"\n]+)\"|`([^`\n]+)`")
_SWIFT_IMPORT = re.compile(r"import\s+(?:(?:class|struct|func|enum|protocol|var|let|typealias)\s+)?([\w.]+)")


def _text(node: Node | None) -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _go_owner(node: Node) -> str:
    if node.type != "method_declaration":
        return ""
    match = _RECEIVER.search(_text(node.child_by_field_name("receiver")))
    return match[1] if match else ""


def _go_body(node: Node) -> Node | None:
    return node.child_by_field_name("type" if node.type == "type_spec" else "body")


def _go_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _GO_IMPORT.search(text)
    if match:
        yield match[1] or match[2], ()


def _rust_name(node: Node) -> Node | str | None:
    if node.type != "impl_item":
        return node.child_by_field_name("name")
    named = node.child_by_field_name("type")
    while named is not None and named.type in ("generic_type", "reference_type"):
        named = named.child_by_field_name("type")
    if named is not None and named.type == "scoped_type_identifier":
        return named.child_by_field_name("name")
    return named


def _rust_imports(_: Node, text: str) -> Iterator[Imported]:
    """``use a::b::{c, d::e}`` takes c and d::e from a::b."""
    text = re.sub(r"^(?:pub(?:\([^)]*\))?\s+)?(?:use|extern\s+crate)\s+", "", text.strip()).rstrip("; \n")
    head, brace, rest = text.partition("{")
    if brace:
        names = re.findall(r"([A-Za-z_*][\w:]*)(?:\s+as\s+\w+)?\s*(?=[,}]|$)", rest)
        yield head.rstrip(": "), tuple(name.rsplit("::", 1)[-1] for name in names)
        return
    path = head.split(" as ")[0].strip()
    module, colons, name = path.rpartition("::")
    if colons:
        yield module, (name,)
    else:
        yield path, ()


def _swift_name(node: Node) -> Node | str | None:
    if node.type in ("init_declaration", "deinit_declaration"):
        return node.type.removesuffix("_declaration")
    named = node.child_by_field_name("name")
    if named is not None and named.type == "user_type":
        return _text(named)
    return named


def _swift_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _SWIFT_IMPORT.search(text)
    if match:
        yield match[1], ()


GO = Dialect("go", "tree_sitter_go", _GO, imports_of=_go_imports, owner_of=_go_owner, body_of=_go_body)
RUST = Dialect("rust", "tree_sitter_rust", _RUST, name_of=_rust_name, imports_of=_rust_imports)
SWIFT = Dialect("swift", "tree_sitter_swift", _SWIFT, name_of=_swift_name, imports_of=_swift_imports)
