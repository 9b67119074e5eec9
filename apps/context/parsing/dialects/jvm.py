"""Java, Kotlin, Scala, and C#, which is like them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_JAVA = """
[(method_declaration) (constructor_declaration) (compact_constructor_declaration)] @function
(class_declaration) @class
(record_declaration) @class
(annotation_type_declaration) @interface
(interface_declaration) @interface
(enum_declaration) @enum
(class_body (field_declaration declarator: (variable_declarator)) @variable)
(interface_body (constant_declaration) @constant)
(method_invocation name: (identifier) @call)
(object_creation_expression type: [(type_identifier) @call (generic_type (type_identifier) @call)])
[(marker_annotation name: (identifier) @call) (annotation name: (identifier) @call)]
(superclass [(type_identifier) @inherit (generic_type (type_identifier) @inherit)])
(super_interfaces (type_list [(type_identifier) @inherit (generic_type (type_identifier) @inherit)]))
(extends_interfaces (type_list [(type_identifier) @inherit (generic_type (type_identifier) @inherit)]))
(formal_parameter type: [(type_identifier) @type (generic_type (type_identifier) @type)])
(field_declaration type: [(type_identifier) @type (generic_type (type_identifier) @type)])
(local_variable_declaration type: [(type_identifier) @type (generic_type (type_identifier) @type)])
(method_declaration type: [(type_identifier) @type (generic_type (type_identifier) @type)])
(type_arguments (type_identifier) @type)
(import_declaration) @import
[(line_comment) (block_comment)] @comment
(string_literal) @string
[(if_statement) (for_statement) (enhanced_for_statement) (while_statement) (do_statement) (catch_clause)
 (ternary_expression)] @branch
(switch_label) @branch
(binary_expression operator: ["&&" "||"]) @branch
(ERROR) @error
"""
_KOTLIN = """
(function_declaration) @function
(secondary_constructor) @function
(class_declaration "interface") @interface
(class_declaration (modifiers (class_modifier "enum"))) @enum
(class_declaration) @class
(object_declaration) @class
(companion_object) @class
(type_alias) @type_alias
(source_file (property_declaration) @variable)
(call_expression . [(identifier) @call (navigation_expression (identifier) @call .)])
(constructor_invocation (user_type (identifier) @call))
(delegation_specifier [(user_type (identifier) @inherit) (constructor_invocation (user_type (identifier) @inherit))])
(user_type (identifier) @type)
(import) @import
[(line_comment) (block_comment)] @comment
[(string_literal) (multiline_string_literal)] @string
[(if_expression) (for_statement) (while_statement) (do_while_statement) (when_entry) (catch_block)] @branch
(binary_expression operator: ["&&" "||" "?:"]) @branch
(ERROR) @error
"""
_SCALA = """
[(function_definition) (function_declaration)] @function
(class_definition) @class
(object_definition) @class
(trait_definition) @trait
(enum_definition) @enum
(type_definition) @type_alias
(compilation_unit [(val_definition) (var_definition)] @variable)
(template_body [(val_definition) (var_definition)] @variable)
(call_expression function: [(identifier) @call (field_expression field: (identifier) @call)
  (generic_function function: [(identifier) @call (field_expression field: (identifier) @call)])])
(instance_expression [(type_identifier) @call (generic_type type: (type_identifier) @call)])
(extends_clause [(type_identifier) @inherit (generic_type type: (type_identifier) @inherit)])
(parameter type: [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(class_parameter type: [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(type_arguments (type_identifier) @type)
(function_definition return_type: [(type_identifier) @type (generic_type type: (type_identifier) @type)])
(import_declaration) @import
[(comment) (block_comment)] @comment
[(string) (interpolated_string)] @string
[(if_expression) (for_expression) (while_expression) (case_clause) (catch_clause)] @branch
(infix_expression operator: (operator_identifier) @branch (#any-of? @branch "&&" "||"))
(ERROR) @error
"""
_CSHARP = """
[(method_declaration) (constructor_declaration) (destructor_declaration) (local_function_statement)
 (operator_declaration)] @function
(class_declaration) @class
(record_declaration) @class
(struct_declaration) @struct
(interface_declaration) @interface
(enum_declaration) @enum
(delegate_declaration) @type_alias
[(namespace_declaration) (file_scoped_namespace_declaration)] @namespace
(property_declaration) @variable
(declaration_list (field_declaration (variable_declaration (variable_declarator)) ) @variable)
(invocation_expression function: [(identifier) @call (member_access_expression name: (identifier) @call)
  (generic_name (identifier) @call) (member_access_expression name: (generic_name (identifier) @call))])
(object_creation_expression type: [(identifier) @call (generic_name (identifier) @call)])
(attribute name: (identifier) @call)
(base_list [(identifier) @inherit (generic_name (identifier) @inherit)])
(parameter type: [(identifier) @type (generic_name (identifier) @type)])
(variable_declaration type: [(identifier) @type (generic_name (identifier) @type)])
(property_declaration type: [(identifier) @type (generic_name (identifier) @type)])
(method_declaration returns: [(identifier) @type (generic_name (identifier) @type)])
(type_argument_list (identifier) @type)
(using_directive) @import
(comment) @comment
[(string_literal) (verbatim_string_literal) (interpolated_string_expression) (raw_string_literal)] @string
[(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement) (switch_section)
 (switch_expression_arm) (catch_clause) (conditional_expression)] @branch
(binary_expression operator: ["&&" "||" "??"]) @branch
(ERROR) @error
"""
_JAVA_IMPORT = re.compile(r"import\s+(?:static\s+)?([\w.]+?)(\.\*)?\s*;?\s*$")
_DOTTED = re.compile(r"(?:import|using)\s+(?:static\s+)?(?:\w+\s*=\s*)?([\w.`*]+)")
_SCALA_IMPORT = re.compile(r"([\w.]+?)\.(?:\{([^}]*)\}|(\w+|\*|_))\s*(?:,|$)")


def _java_name(node: Node) -> Node | None:
    if node.type in ("field_declaration", "constant_declaration"):
        declarator = node.child_by_field_name("declarator")
        return declarator.child_by_field_name("name") if declarator is not None else None
    return node.child_by_field_name("name")


def _kotlin_name(node: Node) -> Node | str | None:
    if node.type == "secondary_constructor":
        return "constructor"
    named = node.child_by_field_name("name") or node.child_by_field_name("type")
    if named is None and node.type == "companion_object":
        return "Companion"
    if named is None and node.type == "property_declaration":
        for child in node.named_children:
            if child.type == "variable_declaration":
                return child.named_children[0] if child.named_children else None
    return named


def _kotlin_body(node: Node) -> Node | None:
    for child in reversed(node.named_children):
        if child.type in ("function_body", "class_body", "enum_class_body", "block"):
            return child
    return None


def _kotlin_respelt(content: bytes) -> bytes:
    """The grammar wants a line end before the brace that closes a body; on one line it understands nothing."""
    return content.replace(b" }", b"\n}")


def _scala_name(node: Node) -> Node | None:
    return node.child_by_field_name("name") or node.child_by_field_name("pattern")


def _csharp_name(node: Node) -> Node | str | None:
    if node.type == "operator_declaration":
        operator = node.child_by_field_name("operator")
        return f"operator {(operator.text or b'').decode()}" if operator is not None else None
    if node.type == "field_declaration":
        for declaration in node.named_children:
            if declaration.type == "variable_declaration":
                for declarator in declaration.named_children:
                    if declarator.type == "variable_declarator":
                        return declarator.child_by_field_name("name") or declarator.named_children[0]
        return None
    return node.child_by_field_name("name")


def _java_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _JAVA_IMPORT.match(text)
    if match is None:
        return
    if match[2]:
        yield match[1], ("*",)
    else:
        module, dot, name = match[1].rpartition(".")
        yield module or name, (name,) if dot else ()


def _dotted_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _DOTTED.search(text)
    if match is None:
        return
    path = match[1].rstrip(".*")
    module, dot, name = path.rpartition(".")
    if text.startswith("using") or not dot:
        yield path, ()
    else:
        yield module, (name,)


def _scala_imports(_: Node, text: str) -> Iterator[Imported]:
    for match in _SCALA_IMPORT.finditer(text.removeprefix("import").strip()):
        names = [part.split()[0] for part in (match[2] or match[3] or "").split(",") if part.strip()]
        yield match[1], tuple(names)


JAVA = Dialect("java", "tree_sitter_java", _JAVA, name_of=_java_name, imports_of=_java_imports)
KOTLIN = Dialect(
    "kotlin",
    "tree_sitter_kotlin",
    _KOTLIN,
    name_of=_kotlin_name,
    imports_of=_dotted_imports,
    body_of=_kotlin_body,
    respelt=_kotlin_respelt,
)
SCALA = Dialect("scala", "tree_sitter_scala", _SCALA, name_of=_scala_name, imports_of=_scala_imports)
CSHARP = Dialect("csharp", "tree_sitter_c_sharp", _CSHARP, name_of=_csharp_name, imports_of=_dotted_imports)
