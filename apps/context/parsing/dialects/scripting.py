"""Ruby, PHP, Bash and SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported

_RUBY = """
[(method) (singleton_method)] @function
(class) @class
(module) @module
(assignment left: (constant)) @constant
(call method: [(identifier) @call (constant) @call])
(superclass [(constant) @inherit (scope_resolution name: (constant) @inherit)])
(scope_resolution name: (constant) @type)
(call receiver: (constant) @type)
(call method: (identifier) @_require arguments: (argument_list . (string))
  (#any-of? @_require "require" "require_relative" "load" "autoload")) @import
(comment) @comment
[(string) (heredoc_body)] @string
[(if) (elsif) (unless) (while) (until) (for) (when) (in_clause) (rescue) (conditional) (if_modifier) (unless_modifier)
 (while_modifier)] @branch
(binary operator: ["&&" "||" "and" "or"]) @branch
(ERROR) @error
"""
_PHP = """
[(function_definition) (method_declaration)] @function
(class_declaration) @class
(interface_declaration) @interface
(trait_declaration) @trait
(enum_declaration) @enum
(namespace_definition body: (_)) @namespace
(const_declaration (const_element)) @constant
(property_declaration (property_element)) @variable
(attribute_list) @lead
(function_call_expression function: [(name) @call (qualified_name (name) @call)])
(member_call_expression name: (name) @call)
(nullsafe_member_call_expression name: (name) @call)
(scoped_call_expression name: (name) @call)
(scoped_call_expression scope: (name) @type)
(object_creation_expression [(name) @call (qualified_name (name) @call)])
(base_clause [(name) @inherit (qualified_name (name) @inherit)])
(class_interface_clause [(name) @inherit (qualified_name (name) @inherit)])
(use_declaration [(name) @inherit (qualified_name (name) @inherit)])
(named_type [(name) @type (qualified_name (name) @type)])
[(namespace_use_declaration) (include_expression) (include_once_expression) (require_expression)
 (require_once_expression)] @import
(comment) @comment
[(string) (encapsed_string) (heredoc) (nowdoc)] @string
[(if_statement) (else_if_clause) (for_statement) (foreach_statement) (while_statement) (do_statement) (case_statement)
 (catch_clause) (conditional_expression) (match_conditional_expression)] @branch
(binary_expression operator: ["&&" "||" "??" "and" "or"]) @branch
(ERROR) @error
"""
_BASH = """
(function_definition) @function
(program (variable_assignment name: (variable_name)) @variable)
(program (declaration_command (variable_assignment name: (variable_name)) @variable))
(command name: (command_name (word) @call))
(command name: (command_name (word) @_source) argument: (_) (#any-of? @_source "source" ".")) @import
(comment) @comment
[(string) (raw_string) (heredoc_body)] @string
[(if_statement) (elif_clause) (for_statement) (c_style_for_statement) (while_statement) (case_item)] @branch
(list ["&&" "||"] @branch)
(ERROR) @error
"""
_SQL = """
[(create_table) (create_view) (create_materialized_view)] @table
(create_function) @function
(create_procedure) @function
(create_trigger) @rule
(create_index) @rule
(create_type) @type_alias
(create_schema) @module
(relation (object_reference name: (identifier) @type))
(invocation (object_reference name: (identifier) @call))
[(comment) (marginalia)] @comment
(literal) @string
[(case) (when_clause)] @branch
(ERROR) @error
"""
_QUOTED = re.compile(r"['\"]([^'\"\n]+)['\"]")
_PHP_USE = re.compile(r"\\?([A-Za-z_][\w\\]*)(?:\s+as\s+\w+)?")
_BASH_SOURCE = re.compile(r"^(?:source|\.)\s+[\"']?([^\"'\s;]+)")


def _ruby_name(node: Node) -> Node | str | None:
    named = node.child_by_field_name("left" if node.type == "assignment" else "name")
    if named is not None and named.type == "scope_resolution":
        return (named.text or b"").decode("utf-8", "replace").replace("::", ".")
    return named


def _php_name(node: Node) -> Node | None:
    for child in node.named_children:
        if child.type == "const_element":
            return child.named_children[0] if child.named_children else None
        if child.type == "property_element":
            return child.child_by_field_name("name") or (child.named_children[0] if child.named_children else None)
    return node.child_by_field_name("name")


def _sql_name(node: Node) -> Node | None:
    """The name that the created thing is given, without its schema."""
    for child in node.named_children:
        if child.type == "object_reference":
            return child.child_by_field_name("name")
        if child.type == "identifier":
            return child
    return None


def _quoted_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _QUOTED.search(text)
    if match:
        yield match[1], ()


def _php_imports(node: Node, text: str) -> Iterator[Imported]:
    if node.type != "namespace_use_declaration":
        yield from _quoted_imports(node, text)
        return
    text = re.sub(r"^use\s+(?:function\s+|const\s+)?", "", text.strip()).rstrip("; ")
    head, brace, rest = text.partition("{")
    if brace:
        names = tuple(part.split()[0] for part in rest.rstrip("} ").split(",") if part.strip())
        yield head.rstrip("\\ "), names
        return
    for part in text.split(","):
        match = _PHP_USE.match(part.strip())
        if match:
            module, _, name = match[1].rpartition("\\")
            yield module or name, (name,) if module else ()


def _bash_imports(_: Node, text: str) -> Iterator[Imported]:
    match = _BASH_SOURCE.match(text)
    if match:
        yield match[1], ()


RUBY = Dialect("ruby", "tree_sitter_ruby", _RUBY, name_of=_ruby_name, imports_of=_quoted_imports)
PHP = Dialect("php", "tree_sitter_php", _PHP, factory="language_php", name_of=_php_name, imports_of=_php_imports)
BASH = Dialect("bash", "tree_sitter_bash", _BASH, imports_of=_bash_imports)
SQL = Dialect(
    "sql",
    "tree_sitter_sql",
    _SQL,
    name_of=_sql_name,
    chunked=frozenset({"function", "table", "rule", "type_alias"}),
)
