"""What a word of a command line stands for, as far as that can be told without running anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

_BRACES = re.compile(r"\{[^{}]*(,|\.\.)")
_EXTENDED_GLOB = re.compile(r"[?*+@!]\(")
_ANSI_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|[0-7]{1,3}|.)", re.DOTALL)
_ANSI_PLAIN = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "E": "\x1b",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
#: Nodes whose value only a shell knows.
EXPANSIONS = frozenset(
    {"simple_expansion", "expansion", "command_substitution", "process_substitution", "arithmetic_expansion"}
)


def words_set(text: str) -> frozenset[str]:
    """The words of a list as people write it."""
    return frozenset(text.split())


@dataclass(frozen=True)
class Word:
    """One word. ``text`` is what the program gets, where nothing in it has to be expanded; else about the source."""

    text: str
    #: Holds an expansion: it may be anything, several words and an option included.
    dynamic: bool = False
    #: May become other words: names of files that match, or the alternatives in braces.
    globbed: bool = False
    source: str = ""
    #: What is expanded is not in quotes, so that it may become several words.
    splits: bool = False

    @property
    def plain(self) -> bool:
        """It is one word, and this one."""
        return not self.dynamic and not self.globbed

    @property
    def may_be_option(self) -> bool:
        """What it becomes may begin with a dash."""
        if self.dynamic:
            return self.splits or not self.text or self.text[0] in "-$`<>"
        return self.globbed and (self.text[0] in "-*?[{+@!" if self.text else True)


@dataclass(frozen=True)
class _Piece:
    text: str
    quoted: bool = False
    dynamic: bool = False


def node_text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def word_read(node: Node) -> Word:
    """The word that a node of the syntax tree stands for."""
    pieces = list(_pieces(node))
    unquoted = "".join(piece.text for piece in pieces if not piece.quoted and not piece.dynamic)
    shape = "".join(piece.text if not piece.quoted and not piece.dynamic else "\0" for piece in pieces)
    globbed = any(character in unquoted for character in "*?[") or bool(_BRACES.search(_unescaped_only(shape)))
    globbed = globbed or bool(_EXTENDED_GLOB.search(shape)) or unquoted.startswith(("~+", "~-"))
    return Word(
        text="".join(piece.text for piece in pieces),
        dynamic=any(piece.dynamic for piece in pieces),
        globbed=globbed,
        source=node_text(node),
        splits=any(piece.dynamic and not piece.quoted for piece in pieces),
    )


def _unescaped_only(shape: str) -> str:
    """Braces hold their alternatives also where these are quoted."""
    return shape.replace("\0", "q")


def _pieces(node: Node) -> Iterator[_Piece]:
    kind, text = node.type, node_text(node)
    if kind in EXPANSIONS:
        yield _Piece(text, dynamic=True)
    elif kind in ("concatenation", "command_name", "word") and node.children:
        end = node.start_byte
        for child in node.children:
            if child.start_byte != end and end != node.start_byte:
                # Something between the pieces that the grammar passed over.
                yield _Piece(" ", dynamic=True)
            yield from _pieces(child)
            end = child.end_byte
    elif kind == "string":
        yield from _string_pieces(node)
    elif kind == "raw_string":
        yield _Piece(text[1:-1], quoted=True)
    elif kind == "ansi_c_string":
        decoded = ansi_decode(text[2:-1])
        yield _Piece(text, dynamic=True) if decoded is None else _Piece(decoded, quoted=True)
    elif kind == "translated_string":
        # Looked up in a catalogue of the locale: the text itself, unless somebody has put one there.
        yield _Piece(text, dynamic=True)
    elif kind == "array":
        yield _Piece(text, dynamic=True)
    else:
        yield from _word_pieces(text)


def _string_pieces(node: Node) -> Iterator[_Piece]:
    """Of a string in double quotes; what lies between its children belongs to it too."""
    raw = node.text or b""
    position = node.start_byte + 1
    end = node.end_byte - 1
    for child in node.children:
        if child.type not in EXPANSIONS:
            continue
        if child.start_byte > position:
            yield _quoted(raw[position - node.start_byte : child.start_byte - node.start_byte])
        yield _Piece(node_text(child), quoted=True, dynamic=True)
        position = max(position, child.end_byte)
    if position < end:
        yield _quoted(raw[position - node.start_byte : end - node.start_byte])
    elif position == node.start_byte + 1:
        yield _Piece("", quoted=True)


def _quoted(raw: bytes) -> _Piece:
    text = raw.decode("utf-8", "replace")
    plain = re.sub(r'\\([\\"$`\n])', lambda found: "" if found[1] == "\n" else found[1], text)
    # A dollar or a backtick that is not escaped and that the grammar made nothing of.
    loose = re.sub(r"\\.", "", text, flags=re.DOTALL)
    return _Piece(plain, quoted=True, dynamic="`" in loose or bool(re.search(r"\$[\w({\[@*#?!$-]", loose)))


def _word_pieces(text: str) -> Iterator[_Piece]:
    """Of a plain word: what stands behind a backslash is quoted by it."""
    plain = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            if plain:
                yield _Piece(plain)
                plain = ""
            if position + 1 < len(text):
                yield _Piece("" if text[position + 1] == "\n" else text[position + 1], quoted=True)
            position += 2
            continue
        if character in "`'\"" or (character == "$" and position + 1 < len(text)):
            yield _Piece(text[position:], dynamic=True)
            return
        plain += character
        position += 1
    if plain:
        yield _Piece(plain)


def ansi_decode(text: str) -> str | None:
    """What stands between ``$'`` and ``'``; None where that isn't sure."""
    unsure = False

    def decoded(found: re.Match[str]) -> str:
        nonlocal unsure
        escape = found[1]
        if escape[0] in "xuU" and len(escape) > 1:
            number = int(escape[1:], 16)
        elif escape[0] in "01234567":
            number = int(escape, 8) & 0xFF
        elif escape in _ANSI_PLAIN:
            return _ANSI_PLAIN[escape]
        else:
            unsure = True
            return found[0]
        # A byte that is no ASCII is part of a character, and a zero ends the text.
        if not 0 < number < 0x80:
            unsure = True
            return found[0]
        return chr(number)

    plain = _ANSI_ESCAPE.sub(decoded, text)
    return None if unsure else plain
