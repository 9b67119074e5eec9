"""``./archon demo``: the whole of it without a key, and an honest verdict when the sample is not what was recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launching import ROOT, environment
from tests.processes import processes_of
from tests.stacks import PATIENCE_SECONDS, Ran, home_open

MONEY = "invoicing/money.py"
INVOICE_TEST = "tests/test_invoice.py"
BUG = "key=lambda index: remainders[index])[:left_over]"
FAILED_THEN_PASSED = [{"name": "unittest", "before": "failed", "after": "passed"}]


@dataclass(frozen=True)
class Clone:
    """A clone of this checkout as it is, in a folder with a space in its name, that uses our environment."""

    root: Path
    home: Path

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        variables = environment(self.home, ARCHON_VENV=os.environ.get("ARCHON_VENV", str(ROOT / ".venv")))
        # Nothing of the person's own is there but what installs packages.
        variables["HOME"] = str(self.home)
        return subprocess.Popen(
            [self.root / "archon", *arguments],
            cwd=self.root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Ran:
        return ran(self.spawn(*arguments))

    def replace(self, name: str, old: str, new: str) -> None:
        """Change the sample."""
        path = self.root / "examples" / "invoicing" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def ran(process: subprocess.Popen[str]) -> Ran:
    try:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, errors = process.communicate()
        raise AssertionError(f"the demo hangs:\n{output}\n{errors}") from None
    return Ran(process.returncode, output, errors)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """What git knows of this checkout, with the changes that aren't committed yet."""
    root = tmp_path / "a clean clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    with home_open() as home:
        yield Clone(root, home)


def test_the_demo_is_verified_and_leaves_no_process(clone: Clone) -> None:
    done = clone.run("demo", "--json")
    said = done.document
    assert done.code == 0, said
    assert (said["status"], said["outcome"], said["checks"]) == ("completed", "verified", FAILED_THEN_PASSED)
    assert said["files_changed"] == [MONEY, "tests/test_money.py"]
    assert "+++ b/invoicing/money.py" in said["diff"] and "reverse=True" in said["diff"]
    assert said["branch"] == f"archon/{said['session_id']}"
    assert said["events"] > 20 and said["tokens"] > 0 and said["seconds"] > 0
    assert said["cost_usd"] == 0
    assert "recording" in done.errors
    assert processes_of(clone.home) == {}


@pytest.mark.slow
def test_two_demos_at_once_don_t_meet(clone: Clone) -> None:
    demos = [ran(process) for process in [clone.spawn("demo", "--json") for _ in range(2)]]
    for demo in demos:
        assert (demo.code, demo.document.get("outcome")) == (0, "verified"), (demo.output, demo.errors)
    assert len({demo.document["session_id"] for demo in demos}) == 2
    assert processes_of(clone.home) == {}


#: What is changed in the sample, and whether the recorded edit can still be made.
MUTATIONS = {
    "another spelling of the bug, so that the edit doesn't apply": (MONEY, BUG, BUG.replace("index", "i"), False),
    "another bug beside it, so that the edit doesn't mend it": (MONEY, "total * weight // whole", "0", True),
    "a test that expects something else": (INVOICE_TEST, "[100, 25, 0]", "[99, 25, 1, 0]", True),
    "a test module that can't be imported": ("tests/test_tax.py", "import unittest", "import unittest, missing", True),
    "a test that never ends well": (
        INVOICE_TEST,
        "class InvoiceTest(unittest.TestCase):\n",
        "class InvoiceTest(unittest.TestCase):\n    def setUp(self):\n        raise SystemExit(0)\n\n",
        True,
    ),
    "a syntax error in what is to be mended": (MONEY, "    return parts\n", "    return parts)\n", True),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old", "new", "applies"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_sample_that_the_recording_does_not_mend_is_failing(
    clone: Clone, name: str, old: str, new: str, applies: bool
) -> None:
    clone.replace(name, old, new)
    done = clone.run("demo", "--json")
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (1, "completed", "failing"), said
    assert [(check["before"], check["after"]) for check in said["checks"]] == [("failed", "failed")]
    assert said["reason"]["message"]
    assert ("reverse=True" in said["diff"]) == applies
    assert processes_of(clone.home) == {}


@pytest.mark.slow
def test_the_demo_tells_a_person_what_happened_and_what_to_do(clone: Clone) -> None:
    done = clone.run("demo")
    assert done.code == 0, done.errors
    for said in (
        "the model in this demo is a recording",
        "verified",
        "reverse=true",
        "./archon fetch",
        "openai_api_key",
    ):
        assert said in done.output.lower()
