"""Reading a command line of bash: which commands are in it, what they are given, and where they write.

Nothing is run and nothing raises: what can't be read for sure is a *problem*, and whoever judges a line with a problem
takes it for the worst. So a construct is either understood here or named a problem; a new one of the grammar is one.
"""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from dataclasses import dataclass, field

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from apps.core.shell_parse_words import EXPANSIONS, Word, node_text, word_read, words_set

#: A longer line is not read.
LENGTH = 30_000
#: CPU that reading one may take, hundreds of times what a real one does: the time to recover from errors grows with the
#: square of their number, and the worker's sessions all wait meanwhile.
CPU_SECONDS = 0.5
#: Neither is one that is nested deeper.
DEPTH = 60
#: Commands of one line that are told apart.
COMMANDS = 400

_LANGUAGE = Language(tree_sitter_bash.language())
_local = threading.local()

_WORDS = frozenset(
    {"word", "number", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation"}
) | EXPANSIONS  # fmt: skip
_REDIRECTS = frozenset({"file_redirect", "heredoc_redirect", "herestring_redirect"})
#: Every kind of node that is understood here, or that says nothing by itself.
_KNOWN = (
    _WORDS
    | _REDIRECTS
    | words_set(
        "program list pipeline command command_name subshell compound_statement negated_command "
        "redirected_statement if_statement elif_clause else_clause while_statement for_statement do_group "
        "case_statement case_item function_definition test_command binary_expression unary_expression "
        "parenthesized_expression variable_assignment variable_assignments variable_name "
        "special_variable_name array declaration_command unset_command comment string_content file_descriptor "
        "heredoc_start heredoc_body heredoc_content heredoc_end test_operator regex extglob_pattern "
        "brace_expression c_style_for_statement subscript postfix_expression"
    )
)
#: Where a command's name is one of these, the grammar has misread what bash takes for its own: `! { rm; }`.
_RESERVED = words_set("! { } if then elif else fi for while until do done case esac select function coproc")
_ARITHMETIC_TESTS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"})
#: Expansions that do no more than give the variable's value, or a piece of it.
_PLAIN_EXPANSION = re.compile(r"\$\{#?\w+(\[[@*\d]+\])?(:?[-+?]|##?|%%?|//?|\^\^?|,,?|\})", re.ASCII)
_PARAMETER = re.compile(r"\$\{#?[@*#?$!0-9-]\}")
_NUMBER_SUM = re.compile(r"[\d\s+*/%()<>=!&|^~-]*")
_CONTINUED = re.compile(r"(?:[^ \t\n]\\\n|\\\n[^ \t\n\\])")


@dataclass(frozen=True)
class Redirect:
    """Where a stream of a command goes to or comes from."""

    operator: str
    target: Word

    @property
    def writes(self) -> bool:
        return ">" in self.operator


@dataclass(frozen=True)
class SimpleCommand:
    """A program and its words, or assignments alone."""

    words: tuple[Word, ...]
    #: Set for this command, or for good where there are no words.
    assignments: tuple[tuple[str, Word], ...] = ()
    #: What it reads from standard input, where that stands in the line; None: something else, or nothing.
    stdin: Word | None = None
    #: Whether it runs, or whether its failing counts, depends on others: it is in a branch, a loop or a function, or
    #: beside an ``||``. What stands behind that and does no more than fail doesn't count.
    conditional: bool = False
    #: It is to fail (``!``).
    negated: bool = False
    #: The shells of its own that it runs in, from the outermost: where it goes, and what it sets, ends with that.
    shells: tuple[int, ...] = ()

    @property
    def apart(self) -> bool:
        return bool(self.shells)


@dataclass(frozen=True)
class Script:
    """What was read of a command line."""

    commands: tuple[SimpleCommand, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    #: Variables that it sets by other means than an assignment: loops.
    variables: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    #: Why it can't be told for sure what it does; empty: it can.
    problems: tuple[str, ...] = ()


@dataclass
class _Reading:
    source: bytes
    commands: list[SimpleCommand] = field(default_factory=list)
    redirects: list[Redirect] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def script_read(text: str) -> Script:
    """The commands of a line, or of several; never raises."""
    if problem := _text_problem(text):
        return Script(problems=(problem,))
    source = text.encode("utf-8")
    root = _tree_of(source)
    if root is None or root.has_error:
        return Script(problems=("it is not written as bash would take it, or in a way that can't be read here",))
    reading = _Reading(source)
    _tree_read(root, reading)
    if len(reading.commands) > COMMANDS:
        reading.problems.append(f"it has more than {COMMANDS} commands")
    return Script(
        commands=tuple(reading.commands[:COMMANDS]),
        redirects=tuple(reading.redirects),
        variables=tuple(reading.variables),
        functions=tuple(reading.functions),
        problems=tuple(dict.fromkeys(reading.problems)),
    )


def _tree_of(source: bytes) -> Node | None:
    """What the grammar makes of it; None for what it can't make sense of within ``CPU_SECONDS``."""
    parser, until = _parser(), time.thread_time() + CPU_SECONDS

    try:
        # Only a source that is read piece by piece is parsed with a limit.
        return parser.parse(
            lambda offset, _: source[offset:], progress_callback=lambda *_: time.thread_time() > until
        ).root_node
    except ValueError:
        # It would go on where it was with the next source.
        parser.reset()
        return None


def _parser() -> Parser:
    """One for each thread: a parser has a state."""
    parser: Parser | None = getattr(_local, "parser", None)
    if parser is None:
        parser = _local.parser = Parser(_LANGUAGE)
    return parser


def _text_problem(text: str) -> str:
    if len(text) > LENGTH:
        return f"it is longer than {LENGTH} characters"
    if not text.isascii() or not text.isprintable():
        for character in text:
            # Blanks of other scripts, invisible and steering characters: bash and a reader see different things.
            if character in "\n\t" or "!" <= character <= "~" or character == " ":
                continue
            if unicodedata.category(character)[0] in "CZ":
                return (
                    f"it holds the character U+{ord(character):04X}, which can't be seen or is read in different ways"
                )
    if _CONTINUED.search(text):
        return "a line is continued within a word"
    return ""


def _tree_read(root: Node, reading: _Reading) -> None:
    """Look at every node there is, so that no command is passed over wherever it stands."""
    stack: list[tuple[Node, int]] = [(root, 0)]
    leaves: list[Node] = []
    while stack:
        node, depth = stack.pop()
        if depth > DEPTH:
            reading.problems.append("it is nested too deeply")
            return
        if node.is_named and node.type not in _KNOWN:
            reading.problems.append(f"it holds what can't be read here ({node.type.replace('_', ' ')})")
        _node_read(node, reading)
        children = node.children
        if not children:
            leaves.append(node)
            _leaf_check(node, reading)
        stack += [(child, depth + 1) for child in reversed(children)]
    _gaps_check(leaves, reading)


#: Leaves in which nothing is expanded.
_VERBATIM = frozenset({"raw_string", "ansi_c_string", "comment", "heredoc_start", "heredoc_end"})
_EXPANDED = re.compile(r"`|\$[({\[]|[<>]\(")


def _leaf_check(leaf: Node, reading: _Reading) -> None:
    """Nothing that bash would expand is left within what the grammar takes for plain text."""
    if not leaf.is_named or leaf.type in _VERBATIM:
        return
    parent = leaf.parent
    if leaf.type == "heredoc_body" and parent is not None and parent.type == "heredoc_redirect":
        start = next((node_text(child) for child in parent.children if child.type == "heredoc_start"), "")
        if any(character in start for character in "'\"\\"):
            return
    if _EXPANDED.search(re.sub(r"\\.", "", node_text(leaf), flags=re.DOTALL)):
        reading.problems.append("it has an expansion that can't be read here")


def _gaps_check(leaves: list[Node], reading: _Reading) -> None:
    """Between what was read there is nothing but blanks, and comments begin where bash begins them."""
    end = 0
    for leaf in sorted(leaves, key=lambda leaf: leaf.start_byte):
        start = leaf.start_byte
        gap = reading.source[end:start].replace(b"\\\n", b"") if start > end else b""
        if gap.strip(b" \t\n"):
            reading.problems.append("a part of it can't be read here")
        if leaf.type == "comment" and start and reading.source[start - 1 : start] not in b" \t\n;&|()":
            reading.problems.append("it has a # that may begin a comment or not")
        end = max(end, leaf.end_byte)
    if reading.source[end:].replace(b"\\\n", b"").strip(b" \t\n"):
        reading.problems.append("a part of it can't be read here")


def _node_read(node: Node, reading: _Reading) -> None:
    kind = node.type
    if kind in ("command", "declaration_command", "unset_command", "test_command"):
        _command_read(node, reading)
    elif kind == "redirected_statement" and not any(
        child.type in ("command", "declaration_command", "unset_command", "test_command") for child in node.children
    ):
        if extra := _extra_words(node.children):
            reading.commands.append(SimpleCommand(tuple(extra)))
    elif kind == "variable_assignment" and (node.parent is None or node.parent.type not in _OWN_ASSIGNMENTS):
        reading.commands.append(SimpleCommand((), (_assignment(node, reading),)))
    elif kind in _REDIRECTS:
        _redirect_read(node, reading)
    elif kind == "for_statement":
        reading.variables += [node_text(child) for child in node.children if child.type == "variable_name"]
    elif kind == "function_definition":
        reading.functions.append(
            node_text(node.children[1] if node.children[0].type == "function" else node.children[0])
        )
    elif kind == "expansion":
        text = node_text(node)
        if not _PLAIN_EXPANSION.match(text) and not _PARAMETER.fullmatch(text):
            reading.problems.append("it expands a variable in a way that may run what is in it")
    elif kind == "arithmetic_expansion":
        if not _NUMBER_SUM.fullmatch(node_text(node).strip("$[]")):
            reading.problems.append("it calculates with variables, which may run what is in them")
    elif kind == "c_style_for_statement" or (kind == "compound_statement" and node_text(node).startswith("((")):
        reading.problems.append("it calculates with variables, which may run what is in them")
    elif kind == "subscript":
        if not re.fullmatch(r"\w+\[[@*\d]+\]", node_text(node)):
            reading.problems.append("it has a subscript that may run what is in it")
    elif kind == "command_substitution" and node_text(node).startswith("`") and "\\" in node_text(node):
        reading.problems.append("it has a backslash within backticks")


#: Where an assignment is read together with what it stands in.
_OWN_ASSIGNMENTS = frozenset({"command", "declaration_command"})


def _command_read(node: Node, reading: _Reading) -> None:
    words: list[Word] = []
    assignments: list[tuple[str, Word]] = []
    for child in node.children:
        if child.type == "variable_assignment":
            assignments.append(_assignment(child, reading))
        elif child.type == "command_name":
            if node_text(child) in _RESERVED:
                reading.problems.append("it has a word of bash's own where it can't be read here")
            words.append(word_read(child))
        elif child.type not in _REDIRECTS and node.type != "test_command":
            words.append(word_read(child))
    if node.type == "test_command":
        words = [Word(node.children[0].type if node.children else "[")]
        if _has_arithmetic(node):
            reading.problems.append("it compares numbers of variables, which may run what is in them")
    redirects = [child for child in node.children if child.type in _REDIRECTS]
    parent = node.parent
    if parent is not None and parent.type == "redirected_statement":
        redirects += [child for child in parent.children if child.type in _REDIRECTS]
    words += _extra_words(redirects)
    conditional, negated = _standing(node)
    reading.commands.append(
        SimpleCommand(
            tuple(words), tuple(assignments), _stdin(redirects), conditional, negated=negated, shells=_shells(node)
        )
    )


_BRANCHES = words_set(
    "if_statement while_statement for_statement c_style_for_statement case_statement function_definition"
)
_SHELLS_OF_THEIR_OWN = words_set("subshell command_substitution process_substitution")
#: All that these do is to fail.
_FAILS = re.compile(r"(exit|return)( +[1-9]\d*)?|false|\{.*[;\n] *(exit|return) +[1-9]\d* *[;\n]\s*\}", re.DOTALL)


def _standing(node: Node) -> tuple[bool, bool]:
    """Whether a command is conditional, and whether it is negated: by what it stands in."""
    negated = False
    inner, outer = node, node.parent
    while outer is not None:
        if outer.type in _BRANCHES:
            return True, negated
        negated = negated or outer.type == "negated_command"
        if outer.type == "list" and any(child.type == "||" for child in outer.children):
            last = outer.children[-1]
            if inner.id == last.id or not _FAILS.fullmatch(node_text(last).strip()):
                return True, negated
        inner, outer = outer, outer.parent
    return False, negated


def _shells(node: Node) -> tuple[int, ...]:
    """Where the shells begin that a command runs in: parentheses, parts of a pipe, substitutions, the background."""
    found: list[int] = []
    each: Node | None = node
    while each is not None:
        following, outer = each.next_sibling, each.parent
        in_pipe = outer is not None and outer.type == "pipeline"
        if in_pipe or each.type in _SHELLS_OF_THEIR_OWN or (following is not None and following.type == "&"):
            found.append(each.start_byte)
        each = outer
    return tuple(reversed(found))


def _has_arithmetic(node: Node) -> bool:
    text = node_text(node)
    return any(option in text.split() for option in _ARITHMETIC_TESTS)


def _extra_words(nodes: list[Node]) -> list[Word]:
    """Words that the grammar puts to a redirection, and bash to the command: ``> file`` takes one word only."""
    extra: list[Word] = []
    for node in nodes:
        if node.type == "file_redirect":
            targets = [child for child in node.children if child.type in _WORDS]
            extra += [word_read(child) for child in targets[1:]]
        elif node.type == "heredoc_redirect":
            extra += [word_read(child) for child in node.children if child.type in _WORDS]
            extra += _extra_words([child for child in node.children if child.type in _REDIRECTS])
    return extra


def _stdin(redirects: list[Node]) -> Word | None:
    """What the last of the redirections has the command read, where that is text of the line."""
    stdin: Word | None = None
    for node in redirects:
        if node.type == "herestring_redirect":
            targets = [child for child in node.children if child.type in _WORDS]
            stdin = word_read(targets[0]) if len(targets) == 1 else None
        elif node.type == "heredoc_redirect":
            stdin = _heredoc(node)
        elif node.type == "file_redirect" and any(child.type.startswith("<") for child in node.children):
            stdin = None
    return stdin


def _heredoc(node: Node) -> Word:
    start = next((node_text(child) for child in node.children if child.type == "heredoc_start"), "")
    body = next((child for child in node.children if child.type == "heredoc_body"), None)
    text = "" if body is None else node_text(body)
    if any(not child.is_named and child.type == "<<-" for child in node.children):
        text = re.sub(r"^\t+", "", text, flags=re.MULTILINE)
    quoted = any(character in start for character in "'\"\\")
    return Word(text, dynamic=not quoted and any(character in text for character in "$`\\"), source="<<" + start)


def _heredoc_check(node: Node, reading: _Reading) -> None:
    """The grammar's idea of a here-document is compared with the lines that bash takes for one."""
    start = next((child for child in node.children if child.type == "heredoc_start"), None)
    body = next((child for child in node.children if child.type == "heredoc_body"), None)
    if start is None or body is None:
        reading.problems.append("a here-document can't be read")
        return
    name = node_text(start)
    delimiter = re.sub(r"[\"'\\]", "", name)
    tabs = any(not child.is_named and child.type == "<<-" for child in node.children)
    first = reading.source.find(b"\n", start.end_byte) + 1
    lines = reading.source[first:].decode("utf-8", "replace").split("\n") if first else []
    plain = [line.lstrip("\t") if tabs else line for line in lines]
    if delimiter not in plain:
        reading.problems.append("a here-document doesn't end")
        return
    text = "".join(f"{line}\n" for line in lines[: plain.index(delimiter)])
    if node_text(body) != text or (text and body.start_byte != first):
        reading.problems.append("a here-document can't be read for sure")
    # The grammar finds $( ) in here-documents, but no backticks, and a backslash may stand before one that counts.
    if name == delimiter and ("`" in text or re.search(r"\\[\\$\n]", text)):
        reading.problems.append("a here-document has backticks or backslashes that are expanded")


def _redirect_read(node: Node, reading: _Reading) -> None:
    if node.type == "heredoc_redirect":
        _heredoc_check(node, reading)
        return
    targets = [child for child in node.children if child.type in _WORDS]
    if node.type == "herestring_redirect":
        if len(targets) != 1:
            reading.problems.append("a here-string can't be read")
        return
    operator = "".join(child.type for child in node.children if not child.is_named)
    if not targets:
        if not operator.endswith("-"):
            reading.problems.append("a redirection has no target")
        return
    reading.redirects.append(Redirect(operator, word_read(targets[0])))


def _assignment(node: Node, reading: _Reading) -> tuple[str, Word]:
    name = node_text(node.children[0])
    values = [child for child in node.children[1:] if child.is_named]
    if len(values) > 1:
        reading.problems.append("an assignment can't be read")
    return re.split(r"[\[+]", name, maxsplit=1)[0], word_read(values[0]) if values else Word("")
