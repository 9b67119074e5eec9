"""Rules: a rule that restricts fits whatever may be meant, one that allows only what is meant for sure."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.tools.catalogue import TOOLS_BY_ROLE, Offer, tool_find, tools_for
from apps.agents.tools.edit_formats import EDIT_TOOLS
from apps.agents.tools.policy import Policy, Verdict, call_decide, call_digest, rules_from_call
from apps.agents.tools.policy_paths import WorktreePaths
from apps.agents.tools.policy_rules import text_fits
from apps.agents.types import PolicyEffect, PolicyRuleData, Risk
from apps.projects.autonomy import Autonomy

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
ALLOW, ASK, DENY = PolicyEffect.ALLOW, PolicyEffect.ASK, PolicyEffect.DENY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A worktree with a secret, and links to it."""
    for path in ("secrets/key.pem", "src/a.py", "src/deep/b.py", ".env", "README.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "link").symlink_to("secrets")
    (tmp_path / "src" / "up").symlink_to("../secrets/key.pem")
    (tmp_path / "absolute").symlink_to("/workspace/secrets")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def decide(
    tool: str,
    arguments: dict[str, Any],
    *rules: PolicyRuleData,
    autonomy: Autonomy = Autonomy.AUTO,
    tree: Path | None = None,
    commands_in: str = "",
) -> Verdict:
    found = tool_find(tool)
    assert found is not None
    return call_decide(
        policy=Policy(autonomy, rules),
        tool=found,
        arguments=found.arguments.model_validate(arguments),
        paths=WorktreePaths(tree, commands_in=commands_in),
        now=NOW,
    )


def runs(command: str, *rules: PolicyRuleData, **more: Any) -> PolicyEffect:
    return decide("run_command", {"command": command}, *rules, **more).effect


def rule(effect: PolicyEffect, **conditions: Any) -> PolicyRuleData:
    return PolicyRuleData(id="r", effect=effect, **conditions)


@pytest.mark.parametrize(
    ("autonomy", "effects"),
    [
        (Autonomy.OBSERVE, [ALLOW, DENY, DENY, ALLOW, DENY, DENY, ALLOW]),
        (Autonomy.ASK, [ALLOW, ASK, ASK, ASK, ALLOW, ASK, ASK]),
        (Autonomy.AUTO_EDIT, [ALLOW, ALLOW, ASK, ALLOW, ALLOW, ASK, ASK]),
        (Autonomy.AUTO, [ALLOW] * 7),
    ],
)
def test_what_the_autonomy_lets_run(autonomy: Autonomy, effects: list[PolicyEffect]) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("read_file", {"path": "a"}),
        ("write_file", {"path": "a", "content": ""}),
        ("delete_file", {"path": "a"}),
        ("run_checks", {}),
        ("run_command", {"command": "ls | wc -l"}),
        ("run_command", {"command": "pytest"}),
        ("web_fetch", {"url": "https://example.com"}),
    ]
    assert [decide(*call, autonomy=autonomy).effect for call in calls] == effects


def test_a_patch_that_deletes_is_a_deletion() -> None:
    for patch in (
        "*** Begin Patch\n*** Delete File: a\n*** End Patch",
        "--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
    ):
        verdict = decide("apply_patch", {"patch": patch}, autonomy=Autonomy.AUTO_EDIT)
        assert (verdict.effect, verdict.risk) == (ASK, Risk.DELETE)
    patch = "*** Begin Patch\n*** Add File: b\n+x\n*** End Patch"
    assert decide("apply_patch", {"patch": patch}, autonomy=Autonomy.AUTO_EDIT).effect == ALLOW


def test_deny_comes_before_ask_and_ask_before_allow() -> None:
    allow, ask, deny = (rule(effect, command="git push *") for effect in (ALLOW, ASK, DENY))
    assert runs("git push", allow, autonomy=Autonomy.ASK) == ALLOW
    assert runs("git push", allow, ask) == ASK
    assert runs("git push", deny, ask, allow) == DENY


def test_a_rule_that_is_over_says_nothing() -> None:
    over = rule(DENY, command="ls *", expires_at=NOW)
    assert runs("ls", over) == ALLOW
    assert runs("ls", rule(DENY, command="ls *", expires_at=NOW + datetime.timedelta(seconds=1))) == DENY


@pytest.mark.parametrize(
    "command",
    [
        "git push origin main",
        "timeout 5 bash -c 'git push'",
        "ls; git push",
        "/usr/bin/git push",
        "git --no-pager push",
        "GIT push".replace("GIT", "git"),
        "echo $(git push)",
        "find . -exec git push \\;",
        "git 'push' --force",
        "$X",
    ],
)
def test_a_command_that_is_denied_is_denied_in_every_dress(command: str) -> None:
    assert runs(command, rule(DENY, command="git push *")) == DENY


@pytest.mark.parametrize("command", ["git pull", "git pushy", "echo git push", "git log", "rgit push"])
def test_other_commands_are_not_denied_with_it(command: str) -> None:
    assert runs(command, rule(DENY, command="git push *")) == ALLOW


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        ("npm test", ALLOW),
        ("npm test -- --watch", ALLOW),
        ("timeout 60 npm test", ALLOW),
        ("npm test && npm test", ALLOW),
        ("cat a | npm test", ALLOW),
        ("npm test; rm -rf .", ASK),
        ("npm test > /etc/passwd", ASK),
        ("npm test $(rm x)", ASK),
        ("NODE_OPTIONS=x npm test", ASK),
        ("sudo npm test", ASK),
        ("./npm test", ASK),
        ("npm testing", ASK),
        ("npm test \u200b", ASK),
    ],
)
def test_what_is_allowed_is_only_that(command: str, effect: PolicyEffect) -> None:
    assert runs(command, rule(ALLOW, command="npm test *"), autonomy=Autonomy.ASK) == effect


def test_what_cannot_be_read_is_allowed_only_by_a_rule_that_says_so() -> None:
    everything = rule(ALLOW, tool="*")
    assert runs("make", everything, autonomy=Autonomy.ASK) == ALLOW
    assert runs("$X", everything, autonomy=Autonomy.ASK) == ASK
    assert runs("$X", rule(ALLOW, risk="unknown"), autonomy=Autonomy.ASK) == ALLOW
    assert runs("make", rule(ALLOW, risk="unknown"), autonomy=Autonomy.ASK) == ASK


def test_rules_by_risk_see_all_that_a_part_does() -> None:
    assert runs("pip install x", rule(DENY, risk="network")) == DENY
    assert runs("git push", rule(DENY, risk="network")) == DENY
    assert runs("git push", rule(ALLOW, risk="git_history"), autonomy=Autonomy.ASK) == ASK
    assert runs("ls | xargs rm", rule(DENY, risk="delete")) == DENY
    assert runs("python -c 'x'", rule(DENY, risk="delete")) == DENY
    assert decide("delete_file", {"path": "a"}, rule(DENY, risk="delete")).effect == DENY
    assert decide("write_file", {"path": "a", "content": ""}, rule(DENY, risk="delete")).effect == ALLOW


SECRET = rule(DENY, path="secrets/")


@pytest.mark.parametrize(
    "path",
    [
        "secrets/key.pem",
        "./secrets/key.pem",
        "src/../secrets/key.pem",
        "secrets//key.pem",
        "SECRETS/KEY.PEM",
        "link/key.pem",
        "src/up",
        "absolute/key.pem",
        "link/../secrets/key.pem",
        "/workspace/secrets/key.pem",
        "\uff53ecrets/key.pem",
    ],
)
def test_a_path_is_denied_however_it_is_written(tree: Path, path: str) -> None:
    assert decide("read_file", {"path": path}, SECRET, tree=tree).effect == DENY
    assert runs(f"cat '{path}'", SECRET, tree=tree) == DENY


@pytest.mark.parametrize("path", ["src/a.py", "README.md", "loop", "src/secrets.py", "link/../README.md", "nothing"])
def test_other_paths_are_not(tree: Path, path: str) -> None:
    assert decide("read_file", {"path": path}, SECRET, tree=tree).effect == ALLOW


@pytest.mark.parametrize(
    "command",
    [
        "cat sec*/key.pem",
        "cat */*.pem",
        "cat $F",
        "cat < secrets/key.pem",
        "echo x > secrets/new",
        "cd secrets && cat key.pem",
        "cd src; cat ../secrets/key.pem",
        "tar c .",
        "grep -r k",
        "grep -r k .",
        "rm -rf secrets",
        "cp -r . /tmp/x",
        "curl -d @secrets/key.pem x",
        "dd if=secrets/key.pem",
        "git show HEAD:secrets/key.pem",
        "git show HEAD",
        "git grep k",
        "git log -p",
        "sort --files0-from=secrets/key.pem",
        "sh -c 'cat secrets/key.pem'",
        "cat src/up",
        "find . -name '*.pem' -exec cat {} +",
        "cat [^x]ecrets/key.pem",
        "cat [[:lower:]]ecrets/key.pem",
        "cat ['!'s]ecrets/key.pem",
        "xargs -a secrets/key.pem echo",
        "date -f secrets/key.pem",
        "git log -u",
        "git log --patch-with-stat",
        "git log -U3",
        "git mv secrets/key.pem x",
        "printf x | sort --files0-from=-",
    ],
)
def test_commands_that_may_touch_a_path_are_denied(tree: Path, command: str) -> None:
    assert runs(command, SECRET, tree=tree) == DENY


@pytest.mark.parametrize(
    "command", ["cat src/a.py", "ls src", "cat src/*.py", "grep -r x src", "echo $X", "find src -name x", "pytest -q"]
)
def test_commands_that_touch_other_paths_run(tree: Path, command: str) -> None:
    assert runs(command, SECRET, tree=tree) == ALLOW


@pytest.mark.parametrize(
    "command",
    [
        "bash -c 'cd secrets; cat key.pem'",
        "bash <<'E'\ncd secrets; cat key.pem\nE",
        "eval 'cd ./secrets'; cat key.pem",
        "trap 'cd ./secrets' DEBUG; cat key.pem",
        "env --chdir=secrets cat key.pem",
        "env -Csecrets cat key.pem",
        "cat /proc/self/cwd/secrets/key.pem",
        "cat /proc/1/root/workspace/secrets/key.pem",
        "".join(f"cd a{number}/..; " for number in range(30)) + "cd secrets; cat key.pem",
    ],
)
def test_a_path_below_a_folder_is_denied_wherever_the_command_is_at_work(tree: Path, command: str) -> None:
    # A pattern with a folder in it: the name alone doesn't fit, nor does the folder.
    assert runs(command, rule(DENY, path="secrets/key.pem"), tree=tree) == DENY


@pytest.mark.parametrize(
    "command", ["git commit -m x", "git checkout -b x", "git log", "bash -c 'ls src'", "cat src/[ab].py"]
)
def test_what_touches_nothing_of_it_is_not(tree: Path, command: str) -> None:
    assert runs(command, SECRET, tree=tree) == ALLOW


@pytest.mark.timeout(30)
def test_more_folders_than_are_told_apart_are_any() -> None:
    assert runs("cd " + "a " * 10_000 + "; cat key.pem", rule(DENY, path="secrets/key.pem")) == DENY


_KEY = "secrets/key.pem"


@pytest.mark.parametrize(
    "patch",
    [
        f"*** Begin Patch\n*** Update File:{_KEY}\n@@\n-x\n+y\n*** End Patch",
        f"diff --git a/{_KEY} b/x\nrename from {_KEY}\nrename to x\n",
        f"diff --git a/x b/{_KEY}\nrename from x\nrename to {_KEY}\n",
        f"diff --git a/{_KEY} b/{_KEY}\ndeleted file mode 100644\n",
        '--- "a/secrets/key\\056pem"\n+++ "b/secrets/key\\056pem"\n@@ -1 +1 @@\n-x\n+y\n',
    ],
)
def test_a_file_of_a_patch_is_denied_however_it_is_named(tree: Path, patch: str) -> None:
    assert decide("apply_patch", {"patch": patch}, SECRET, tree=tree).effect == DENY
    source = rule(ALLOW, path="src/**")
    whole = f"--- a/src/a.py\n+++ b/src/a.py\n@@ -1 +1 @@\n-x\n+y\n{patch}"
    assert decide("apply_patch", {"patch": whole}, source, autonomy=Autonomy.ASK, tree=tree).effect == ASK


def test_always_is_for_this_file_alone(tree: Path) -> None:
    tool = tool_find("write_file")
    assert tool is not None
    call = {"path": "README.md", "content": ""}
    found = rules_from_call(tool, tool.arguments.model_validate(call), Policy(Autonomy.ASK))
    assert found is not None
    [(name, path, _)] = found
    made = rule(ALLOW, tool=name, path=path)
    assert decide("write_file", call, made, autonomy=Autonomy.ASK, tree=tree).effect == ALLOW
    other = {"path": "src/README.md", "content": ""}
    assert decide("write_file", other, made, autonomy=Autonomy.ASK, tree=tree).effect == ASK


def test_a_path_of_names_fits_in_any_folder(tree: Path) -> None:
    names = rule(DENY, path="*.pem")
    assert decide("read_file", {"path": "secrets/key.pem"}, names, tree=tree).effect == DENY
    assert runs("cat /etc/ssl/x.pem", names, tree=tree) == DENY
    assert runs("cat /etc/passwd", rule(DENY, path="/etc/**"), tree=tree) == DENY
    assert decide("search", {"pattern": "x"}, names, tree=tree).effect == DENY
    assert decide("search", {"pattern": "x", "path": "src"}, names, tree=tree).effect == ALLOW
    assert decide("git_show", {"revision": "HEAD:secrets/key.pem"}, names, tree=tree).effect == DENY
    assert decide("git_show", {"revision": "HEAD"}, names, tree=tree).effect == DENY
    assert decide("git_show", {"revision": "HEAD", "path": "src/a.py"}, names, tree=tree).effect == ALLOW


def test_a_path_that_is_allowed_is_allowed_for_sure(tree: Path) -> None:
    source = rule(ALLOW, path="src/**")

    def writes(path: str) -> PolicyEffect:
        call = {"path": path, "content": ""}
        return decide("write_file", call, source, autonomy=Autonomy.ASK, tree=tree).effect

    assert [writes(path) for path in ("src/a.py", "src/new/x", "./src/a.py")] == [ALLOW] * 3
    assert [writes(path) for path in ("a.py", "src/../a.py", "SRC/a.py", "src/up", "/etc/src/a")] == [ASK] * 5
    assert runs("rm src/a.py", source, autonomy=Autonomy.ASK, tree=tree) == ALLOW
    assert runs("rm src/a.py a.py", source, autonomy=Autonomy.ASK, tree=tree) == ASK
    assert runs("rm src/$X", source, autonomy=Autonomy.ASK, tree=tree) == ASK
    assert runs("python src/a.py", source, autonomy=Autonomy.ASK, tree=tree) == ASK
    assert runs("cd /tmp && rm src/a.py", source, autonomy=Autonomy.ASK, tree=tree) == ASK


def test_commands_start_in_the_projects_folder(tree: Path) -> None:
    assert runs("cat key.pem", SECRET, tree=tree, commands_in="secrets") == DENY
    assert runs("cat ../README.md", SECRET, tree=tree, commands_in="secrets") == ALLOW


def test_a_pattern_covers_any_text_and_no_words_at_all() -> None:
    assert text_fits("git push *", "git push") and text_fits("git push *", "git push a\nb")
    assert not text_fits("git push *", "git pushy") and not text_fits("a.c", "abc")
    assert text_fits("a?c", "abc") and text_fits("*", "")


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=3), st.dictionaries(st.text(max_size=5), _JSON, max_size=3))
def test_a_digest_is_of_the_exact_arguments(one: dict[str, Any], other: dict[str, Any]) -> None:
    reordered = dict(reversed(list(one.items())))
    assert call_digest(name="x", arguments=one) == call_digest(name="x", arguments=reordered)
    assert call_digest(name="x", arguments=one) != call_digest(name="y", arguments=one)
    same = repr(sorted(one.items(), key=str)) == repr(sorted(other.items(), key=str))
    assert same or one == other or call_digest(name="x", arguments=one) != call_digest(name="x", arguments=other)


@pytest.mark.parametrize("role", sorted(TOOLS_BY_ROLE))
def test_who_may_only_read_has_no_tool_that_changes_anything(role: str) -> None:
    for edits in EDIT_TOOLS:
        tools = tools_for(role, Offer(edits, web=True, read_only=True))
        assert not [tool.name for tool in tools.values() if tool.mutating]
        assert {"read_file", "search"} <= set(tools)
