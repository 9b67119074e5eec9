"""Jupyter notebooks as text: cells with what they printed, images by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from apps.projects.workspace import WorkspaceError

#: What is shown of one output, in characters.
OUTPUT_SHOWN = 2_000


def notebook_text(content: bytes, path: str) -> str:
    """The cells in order, each under a line that names it; WorkspaceError when it is no notebook."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkspaceError(f"{path} is not a notebook: it is no JSON ({str(error)[:200]})") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list):
        raise WorkspaceError(f"{path} is not a notebook of format 4: it has no list of cells")
    parts: list[str] = []
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            raise WorkspaceError(f"{path} is not a notebook: its cell {number} is no object")
        parts.append(f"--- cell {number}, {_word(cell.get('cell_type'))} ---")
        parts.append(_text(cell.get("source")).rstrip("\n"))
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                parts += _output(output)
    return "\n".join(parts)


def _output(output: dict[str, Any]) -> Iterator[str]:
    kind = _word(output.get("output_type"))
    if kind == "stream":
        yield f"[output, {_word(output.get('name')) or 'stdout'}]"
        yield _cut(_text(output.get("text")))
    elif kind == "error":
        name, value = _text(output.get("ename")), _text(output.get("evalue"))
        yield f"[error] {_cut(f'{name}: {value}')}"
    else:
        data = output.get("data")
        yield from _data(data if isinstance(data, dict) else {})


def _data(data: dict[str, Any]) -> Iterator[str]:
    """The text of a result; everything else by its type and size."""
    for mime_type, value in data.items():
        if mime_type == "text/plain":
            yield "[output]"
            yield _cut(_text(value))
        elif mime_type.startswith("image/") and mime_type != "image/svg+xml":
            yield f"[output: an image, {mime_type}, {len(_text(value)) * 3 // 4} bytes]"
        else:
            yield f"[output: {mime_type}, {len(_text(value))} characters]"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return "" if value is None else json.dumps(value)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _cut(text: str) -> str:
    text = text.rstrip("\n")
    if len(text) <= OUTPUT_SHOWN:
        return text
    return f"{text[:OUTPUT_SHOWN]}\n[... {len(text) - OUTPUT_SHOWN} characters of this output left out]"
