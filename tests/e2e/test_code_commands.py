"""``archon index`` and ``archon search`` on a running stack, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from cli.index_watch import job_follow
from tests.builders import git, repository_build
from tests.launching import archon_spawn
from tests.processes import wait_until
from tests.stacks import LiveStack

pytestmark = pytest.mark.timeout(600)

CART = 'class Cart:\n    def total_of_cart(self):\n        """What all of it costs."""\n        return 41\n'
FILES = {
    "shop/cart.py": CART,
    "README.md": "# Shop\n\nSells ocelots.\n",
}


def test_index_a_folder_and_search_it(stack: LiveStack, tmp_path: Path) -> None:
    folder = repository_build(tmp_path / "shop", FILES)
    indexed = stack.archon("index", str(folder), "--json")
    assert (indexed.code, indexed.document["state"]) == (0, "completed"), indexed.errors
    assert indexed.document["progress"]["files_done"] == 2
    found = stack.archon("search", "total of cart", "--project", str(folder), "--mode", "text", "--json").document
    hit = found["hits"][0]
    assert (hit["path"], hit["symbol"]) == ("shop/cart.py", "Cart.total_of_cart")
    assert hit["commit"] == git(folder, "rev-parse", "HEAD")
    shown = stack.archon("search", "Cart", "--project", str(folder), "--mode", "symbol")
    assert shown.code == 0 and "shop/cart.py:1" in shown.output
    again = stack.archon("index", str(folder), "--json").document
    assert again["state"] == "completed" and again["progress"].get("files_total", 0) == 0
    # What is committed here is found once it has been brought.
    (folder / "new.py").write_text("def capybara():\n    return 1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "more")
    assert stack.archon("index", str(folder), "--json").document["progress"]["files_total"] == 1
    named = stack.archon("search", "capybara", "--project", str(folder), "--mode", "regex", "--json").document
    assert [each["path"] for each in named["hits"]] == ["new.py"]


def test_a_job_is_followed_over_the_websocket(stack: LiveStack, tmp_path: Path) -> None:
    project = stack.project_make(repository_build(tmp_path / "shop", FILES))
    job = stack.api.index_start(project.id, rebuild=True)
    address = f"{stack.url.replace('http', 'ws', 1)}/ws/index/{project.id}/"
    told: list[dict[str, Any]] = []
    while not told or told[-1]["type"] != "end":
        # Gone after each two frames, and back with what was seen.
        seen = {job.id: len(told)}
        with connect(address, proxy=None) as connection:
            connection.send(json.dumps({"type": "authenticate", "token": stack.api.token, "seen": seen}))
            assert json.loads(connection.recv(timeout=120))["type"] == "ready"
            for _ in range(2):
                frame = json.loads(connection.recv(timeout=120))
                told += [frame] if frame.get("job") == job.id else []
                if frame["type"] == "end":
                    break
    assert [frame["event"]["seq"] for frame in told[:-1]] == list(range(1, len(told)))
    types = [frame["event"]["type"] for frame in told[:-1]]
    assert types[:2] == ["IndexQueued", "IndexStarted"] and types[-1] == "IndexCompleted"
    # The command's own way: progress as it comes, and the end as the API has it.
    states = [each.state for each in job_follow(stack.api, stack.api.index_start(project.id, rebuild=True))]
    assert "running" in states[:-1] and states[-1] == "completed"


def test_what_cannot_be_found_or_understood_is_told(stack: LiveStack, tmp_path: Path) -> None:
    folder = repository_build(tmp_path / "shop", FILES)
    assert stack.archon("index", str(folder), "--json").code == 0
    nothing = stack.archon("search", "nothing_like_it_anywhere", "--project", str(folder), "--mode", "symbol")
    assert nothing.code == 0 and "Nothing was found" in nothing.output
    wrong = stack.archon("search", "(", "--project", str(folder), "--mode", "regex")
    assert wrong.code != 0 and "regular expression" in wrong.errors
    assert stack.archon("search", "x", "--project", "no-such-project").code != 0
    assert stack.archon("index", str(tmp_path / "missing")).code != 0


@pytest.mark.slow
def test_a_folder_is_watched(stack: LiveStack, tmp_path: Path) -> None:
    folder = repository_build(tmp_path / "shop", FILES)
    with archon_spawn(stack.home, "index", str(folder), "--watch", **stack.variables) as watching:
        try:
            assert watching.stdout is not None
            said = ""
            while "Watching" not in said:
                line = watching.stdout.readline()
                assert line, said
                said += line

            def found(query: str) -> list[str]:
                answer = stack.archon("search", query, "--project", str(folder), "--mode", "regex", "--json")
                return [hit["path"] for hit in answer.document["hits"]]

            (folder / "saved.py").write_text("def pelican_saved():\n    return 1\n")
            assert wait_until(lambda: found("pelican_saved") == ["saved.py"], seconds=120)
            git(folder, "add", "-A")
            git(folder, "commit", "-q", "-m", "saved")
            (folder / "README.md").write_text("# Shop\n\nSells walruses_now.\n")
            assert wait_until(lambda: found("walruses_now") == ["README.md"], seconds=120)
            # Deleted, renamed, and moved with its folder, none of it committed.
            (folder / "saved.py").unlink()
            assert wait_until(lambda: found("pelican_saved") == [], seconds=120)
            (folder / "draft.py").write_text("def toucan_draft():\n    return 1\n")
            assert wait_until(lambda: found("toucan_draft") == ["draft.py"], seconds=120)
            (folder / "draft.py").rename(folder / "later.py")
            assert wait_until(lambda: found("toucan_draft") == ["later.py"], seconds=120)
            (folder / "shop").rename(folder / "store")
            assert wait_until(lambda: found("total_of_cart") == ["store/cart.py"], seconds=120)
            # As it was: nothing has to stand for it.
            (folder / "store").rename(folder / "shop")
            assert wait_until(lambda: found("total_of_cart") == ["shop/cart.py"], seconds=120)
            # A deletion that is committed, and one that is not.
            git(folder, "add", "saved.py")
            git(folder, "commit", "-q", "-m", "less")
            (folder / "shop" / "cart.py").unlink()
            assert wait_until(lambda: found("total_of_cart") == [], seconds=120)
        finally:
            watching.terminate()
            watching.communicate()
    # What was not committed goes with the watching, and what was stays.
    assert wait_until(lambda: found("walruses_now") == [], seconds=120)
    assert wait_until(lambda: found("total_of_cart") == ["shop/cart.py"], seconds=120)
    assert found("pelican_saved") == found("toucan_draft") == []
