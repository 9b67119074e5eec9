"""The runners of tests in the Node world, and reading what they wrote.

They are asked by a ``node`` that stands before the real one (``lent/bin/node``): a script may call them in any way,
through other scripts, wrappers and variables of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from apps.projects.ecosystems.results import MAX_BYTES, MAX_NAME, file_read, files_find, results_merge
from apps.projects.ecosystems.types import LENT, Results, Runner, RunnerCall, TestResult
from apps.projects.sandbox.rootfs import program_path
from apps.projects.workspace import SANDBOX_WORKSPACE

#: What makes Node's tools leave the network, which isn't there, alone, and end rather than watch files.
NODE_ENV: Mapping[str, str] = {
    "CI": "true",
    "npm_config_offline": "true",
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
    "npm_config_manage_package_manager_versions": "false",
    "COREPACK_ENABLE_NETWORK": "0",
    "COREPACK_ENABLE_STRICT": "0",
    "YARN_NODE_LINKER": "node-modules",
    "YARN_ENABLE_TELEMETRY": "0",
}
_MAX_SELECTED = 50
#: A document is read as a whole, which takes many times its size.
_MAX_DOCUMENT = 32 * 1024 * 1024
_JEST: dict[str, TestResult] = {
    "passed": "passed",
    "failed": "failed",
    "pending": "skipped",
    "skipped": "skipped",
    "todo": "skipped",
    "disabled": "skipped",
}
_OWN: dict[str, TestResult] = {"passed": "passed", "failed": "failed", "error": "error", "skipped": "skipped"}
_RUN_WORDS = ("run", "run-script", "rum", "urn")


def node_results(results: Results) -> dict[str, TestResult]:
    """Of every file that a runner wrote, whichever it was."""
    left = MAX_BYTES
    parts: list[Mapping[str, TestResult]] = []
    for suffix, parse in ((".jsonl", _lines_parse), (".json", _jest_parse)):
        for path in files_find(results.folder, suffix=suffix):
            content = file_read(path, limit=min(left, _MAX_DOCUMENT) if suffix == ".json" else left)
            if content is None:
                continue
            left -= len(content)
            parts.append(parse(content, results.place))
    return results_merge(parts)


def _lines_parse(content: bytes, place: str) -> dict[str, TestResult]:
    """Ours: ``{"file": …, "name": […], "result": …}``, line by line. A line that isn't so makes all of it worthless."""
    parts: list[Mapping[str, TestResult]] = []
    for line in content.splitlines():
        test = _json(line)
        result = _OWN.get(str(test.get("result"))) if isinstance(test, dict) else None
        if result is None:
            return {}
        parts.append({_name(test.get("file"), test.get("name"), place): result})
    return results_merge(parts)


def _jest_parse(content: bytes, place: str) -> dict[str, TestResult]:
    """jest's own format, which vitest writes, too."""
    document = _json(content)
    files = document.get("testResults") if isinstance(document, dict) else None
    if not isinstance(files, list):
        return {}
    parts: list[Mapping[str, TestResult]] = []
    for file in files:
        if not isinstance(file, dict) or not isinstance(cases := file.get("assertionResults"), list):
            return {}
        failed = False
        for case in cases:
            result = _JEST.get(str(case.get("status"))) if isinstance(case, dict) else None
            titles = case.get("ancestorTitles") if isinstance(case, dict) else None
            if result is None or not isinstance(titles, list):
                return {}
            failed = failed or result == "failed"
            parts.append({_name(file.get("name"), [*titles, case.get("title")], place): result})
        if file.get("status") == "failed" and not failed:
            # It could not be loaded, or what it does before its tests failed.
            parts.append({_name(file.get("name"), [], place): "error"})
    return results_merge(parts)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(file: object, titles: object, place: str) -> str:
    """``test/a.test.js::suite > test``, the file as the project's folder knows it."""
    top = PurePosixPath(SANDBOX_WORKSPACE, place)
    path = PurePosixPath(file) if isinstance(file, str) and file else None
    if path is not None and path.is_relative_to(top):
        path = path.relative_to(top)
    words = [" ".join(str(title).split()) for title in titles] if isinstance(titles, list) else []
    title = " > ".join(word for word in words if word)
    return "::".join(part for part in (str(path) if path is not None else "", title) if part)[:MAX_NAME]


def node_ask(call: RunnerCall) -> RunnerCall:
    """Node's programs start through ours."""
    path = call.env.get("PATH") or program_path(environment=True)
    if not path.startswith(f"{LENT}/bin:"):
        path = f"{LENT}/bin:{path}"
    return replace(call, env={**NODE_ENV, **call.env, "PATH": path})


def node_select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    """Only tests of these titles: runners take a pattern, some for the whole title and some for its last part."""
    titles = [test.partition("::")[2].split(" > ") for test in tests]
    if len(tests) > _MAX_SELECTED or any(titles_ == [""] for titles_ in titles):
        return None
    names = dict.fromkeys(name for parts in titles for name in (" ".join(parts), parts[-1]))
    # Spaces stand for any white space, since titles were made one line.
    pattern = "|".join(re.sub(r"(\\? )+", r"\\s+", re.escape(name).replace("/", "\\/")) for name in names)
    return replace(call, env={**call.env, "ARCHON_SELECT": f"^({pattern})$"})


def _calls(*programs: str) -> Callable[[Sequence[str]], bool]:
    def calls(words: Sequence[str]) -> bool:
        rest = list(words)
        if rest[:1] == ["npx"] or rest[:2] in (["npm", "exec"], ["pnpm", "exec"], ["yarn", "exec"]):
            rest = [word for word in rest[1 if rest[0] == "npx" else 2 :] if not word.startswith("-")]
        return bool(rest) and PurePosixPath(rest[0]).name in programs

    return calls


def _calls_node_test(words: Sequence[str]) -> bool:
    if not words or words[0] != "node":
        return False
    options = list(words[1:])
    return (
        "--test" in options[: next((at for at, word in enumerate(options) if not word.startswith("-")), len(options))]
    )


def _runner(name: str, calls: Callable[[Sequence[str]], bool]) -> Runner:
    return Runner(name=name, calls=calls, ask=node_ask, read=node_results, select=node_select, reaches_inside=True)


NODE_RUNNERS = (
    _runner("vitest", _calls("vitest")),
    _runner("jest", _calls("jest")),
    _runner("mocha", _calls("mocha", "_mocha")),
    _runner("node-test", _calls_node_test),
    # A script that calls one of them: which it is shows when it runs.
    _runner("npm-script", lambda words: False),
)
