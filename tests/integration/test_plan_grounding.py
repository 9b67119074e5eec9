"""What a plan names is held against the server's repository, and whether its checks can run against what bash does."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.agents.tools.grounding import RepositoryGrounding, programs_look_up, programs_named
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.problems import Grounding
from apps.projects.repository_store import repository_path
from benchmarks._plan_programs import SYSTEM
from tests.sandboxing import opened

FILES = {
    "README.md": "# Shop\n",
    ".gitignore": "generated/\n*.log\n!keep.log\n",
    "Makefile": "test:\n\ttrue\n",
    "package.json": '{"scripts": {"test": "true"}}\n',
    "src/shop/__init__.py": "",
    "src/shop/Cart.py": "x = 1\n",
    "tests/__init__.py": "",
    "tests/test_cart.py": "import unittest\n\nclass Cart(unittest.TestCase):\n    def test_it(self): pass\n",
    "scripts/there.sh": "#!/bin/sh\ntrue\n",
    "scripts/plain.sh": "true\n",
    "scripts/seed.py": "print(1)\n",
    "web/src/app.test.ts": "",
    "docs/übersicht.md": "",
}
PROGRAMS = SYSTEM | {
    "sudo",
    "python3",
    "pytest",
    "npm",
    "pnpm",
    "yarn",
    "bun",
    "npx",
    "jest",
    "make",
    "go",
    "cargo",
    "node",
    "pip",
}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    (folder / "link").symlink_to("src/shop")
    (folder / "out").symlink_to("/etc")
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _git(folder, "add", "--all", "--force")
    _git(folder, "commit", "--quiet", "--message", "First")
    # A submodule as a commit has it: an id that isn't in this repository.
    _git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    _git(folder, "commit", "--quiet", "--message", "Second")
    return folder


@pytest.fixture(scope="module")
def project(checkout: Path) -> tuple[uuid.UUID, str]:
    project_id = uuid.uuid4()
    target = repository_path(project_id=project_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    _git(checkout, "clone", "--quiet", "--bare", str(checkout), str(target))
    return project_id, _git(checkout, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def ground(project: tuple[uuid.UUID, str]) -> RepositoryGrounding:
    return RepositoryGrounding(project_id=project[0], commit=project[1], program_exists=PROGRAMS.__contains__)


def test_paths_are_those_of_the_commit(ground: RepositoryGrounding) -> None:
    is_grounding: Grounding = ground
    there = ["README.md", "src", "src/shop/Cart.py", "./src//shop/", ".", "link", "link/Cart.py", "link/../README.md"]
    there += ["docs/übersicht.md", "docs/u\u0308bersicht.md", "vendored", "vendored/any/thing.c", "out/passwd"]
    assert [path for path in there if not is_grounding.file_exists(path)] == []
    gone = ["readme.md", "src/shop/cart.py", "README.md/x", "link/nothing.py", "sr", "nothing"]
    assert [path for path in gone if ground.file_exists(path)] == []


@pytest.mark.parametrize(
    ("path", "likely"),
    [
        ("readme.md", "README.md"),
        ("shop/Cart.py", "src/shop/Cart.py"),
        ("cart.py", "src/shop/Cart.py"),
        ("repository/src/shop/Cart.py", "src/shop/Cart.py"),
        ("src\\shop\\Cart.py", "src/shop/Cart.py"),
        ("src/shop/Carts.py", "src/shop/Cart.py"),
        ("src/tests", "tests"),
        ("README.rst", "README.md"),
        ("tests/test_crat.py", "tests/test_cart.py"),
    ],
)
def test_what_may_have_been_meant_is_offered(ground: RepositoryGrounding, path: str, likely: str) -> None:
    assert ground.files_like(path)[0] == likely


def test_nothing_is_offered_where_nothing_is_alike(ground: RepositoryGrounding) -> None:
    assert list(ground.files_like("zzz/qqq.xyz")) == []


CAN_RUN = r"""
pytest tests/test_cart.py::Cart::test_it -k 'a or b' -n 4 --tb short
pytest tests/test_new.py && pytest --junitxml out.xml made/dir/test_x.py
pytest tests/test_*.py "$X" $(ls tests) 'tests/**/*.py'
python3 -m unittest tests.test_cart tests.test_cart.Cart.test_it os.path anything.else
python3 -m unittest tests.test_new && python3 scripts/seed.py && python3 -X dev -c pass nothing.py
python3 - <<'EOF'
python3 < nothing.py; cat nothing.txt; test -f nothing.py; rm -f nothing.py
scripts/there.sh && ./scripts/there.sh && sh scripts/plain.sh && bash -eu scripts/plain.sh && bash -n scripts/new.sh
./scripts/new.sh; ./build/app; ./generated/x; node_modules/.bin/jest; ./x.log; sh vendored/run.sh; ./out/x.sh
nosuch || true; if nosuch; then nosuch; fi; for x in 1; do nosuch; done; f() { nosuch; }
! grep -q x nothing.txt; ! sh nothing.sh; command -v nosuch; true && true || nosuch
source env.sh; nosuch
PATH=/opt/bin:$PATH nosuch
pip install nosuch && nosuch
echo 'true' > nothing.sh; sh nothing.sh
make && ./app && sh app.sh
cd src && python3 ../scripts/seed.py && cd "$HOME" && sh any.sh
cd src/shop && python3 Cart.py
cd /tmp && sh any.sh
mkdir -p new && cd new && ls
npm test && npm run test -- --ci && npm run nosuch --if-present && npm --prefix web run nosuch
npx jest web/src/app.test.ts app.test && npx --yes jest any.test.ts && jest src/new.test.ts
make test && make -C web any && make
timeout 5 env A=1 nice -n 3 python3 scripts/seed.py | xargs -n1 nosuch
pnpm install; yarn install; bun test; pnpm nosuch; yarn jest; pnpm run a:b --if-present
env -C web sh any.sh && sudo --chdir=web sh any.sh
go version; cargo --version; cargo test --manifest-path x/Cargo.toml
(cd web; ls) && sh -c 'python3 scripts/seed.py'
python3 -m pytest tests; python3 -m nosuch; python3 -m coverage run -m pytest tests/test_cart.py
"""
CANNOT_RUN = r"""
nosuch --all => there is no program nosuch
true && timeout 5 nosuch => there is no program nosuch
ls | nosuch => there is no program nosuch
echo "$(nosuch)" => there is no program nosuch
! nosuch => there is no program nosuch
nosuch || exit 1 => there is no program nosuch
nosuch || { echo no; exit 1; } => there is no program nosuch
sh -c 'nosuch' => there is no program nosuch
env -C web nosuch => there is no program nosuch
/usr/bin/nosuch => there is no program /usr/bin/nosuch
pytest tests/nothing.py -q => there is no file tests/nothing.py
pytest nothing => there is no file nothing
python3 -m pytest -x tests/nothing.py::test_a => there is no file tests/nothing.py
python3 nothing.py => there is no file nothing.py
python3 -X dev -B nothing.py => there is no file nothing.py
python3 -m unittest tests.test_nothing => there is no module tests.test_nothing
sh nothing.sh => there is no file nothing.sh
bash scripts/nothing.sh arg => there is no file scripts/nothing.sh
./nothing.sh => there is no file ./nothing.sh
./scripts/plain.sh => ./scripts/plain.sh is not executable
./src => ./src is a folder
cd nowhere && ls => there is no folder nowhere
cd src && sh nothing.sh => there is no file nothing.sh
node nothing.js => there is no file nothing.js
npx jest src/nothing.test.ts => no file fits src/nothing.test.ts
npm run nosuch => package.json has no script nosuch
pnpm run test:all => package.json has no script test:all
yarn run test:all => package.json has no script test:all
go test ./... => go needs go.mod or go.work
cargo test => cargo needs Cargo.toml
coverage run -m pytest tests/nothing.py => there is no program coverage
if true; then ls => bash can't read it
ls 'a => bash can't read it
ls && => bash can't read it
bash -c 'if' => bash can't read 'if'
"""


@pytest.mark.parametrize("command", CAN_RUN.strip().split("\n"))
def test_a_check_that_may_run_is_let_through(ground: RepositoryGrounding, command: str) -> None:
    made = ["tests/test_new.py", "made/dir", "scripts/new.sh", "src/new.test.ts"]
    assert ground.check_problem(command, made) == ""


@pytest.mark.parametrize("line", CANNOT_RUN.strip().split("\n"))
def test_why_a_check_cannot_run_is_told(ground: RepositoryGrounding, line: str) -> None:
    command, _, why = line.partition(" => ")
    assert ground.check_problem(command, []).startswith(why)


def test_programs_may_come_with_what_a_task_installs(
    ground: RepositoryGrounding, project: tuple[uuid.UUID, str]
) -> None:
    assert ground.check_problem("nosuch src", ["src/a.py"])
    assert ground.check_problem("nosuch src", ["web/package.json"]) == ""
    assert ground.check_problem("npm run nosuch", ["package.json"]) == ""
    # A task that touches the file may make it executable.
    assert ground.check_problem("./scripts/plain.sh", ["scripts/plain.sh"]) == ""
    unknown = RepositoryGrounding(project_id=project[0], commit=project[1])
    assert unknown.check_problem("nosuch src && /opt/nosuch", []) == ""


def test_checks_run_in_the_subfolder(project: tuple[uuid.UUID, str]) -> None:
    within = RepositoryGrounding(project_id=project[0], commit=project[1], subfolder="src", program_exists=None)
    assert within.check_problem("python3 shop/Cart.py && ../scripts/there.sh && make -f ../Makefile", []) == ""
    assert within.check_problem("sh new.sh", ["src/new.sh"]) == ""
    assert within.check_problem("echo true > other.sh && sh other.sh && cd shop && sh ../other.sh", []) == ""
    assert within.check_problem("python3 scripts/seed.py", []).startswith("there is no file scripts/seed.py")
    assert within.files_like("shop/Cart.py") == ["src/shop/Cart.py"]


PIECES = st.sampled_from(
    [
        *("true", "false", ":", "nosuch", "nosuch x", "ls README.md", "sh scripts/there.sh", "sh nothing.sh"),
        *("./scripts/there.sh", "./nothing.sh", "./scripts/plain.sh", "cd src", "cd nowhere", "touch made.txt"),
        *("echo true > made.sh", "sh made.sh", "cp scripts/there.sh other.sh", "./other.sh", "sh -c nosuch"),
        *(
            "X=1",
            "X=1 nosuch",
            "make test",
            "make nosuch",
            "$ true",
            "command -v nosuch",
            "timeout 5 sh nothing.sh",
            "python3 scripts/seed.py",
        ),
        *("[ -f nothing ]", "eval true", "exit 0", "echo 'nosuch ; x'", "cat <<E\nnosuch\nE", "nosuch() { :; }"),
    ]
)
AROUND = st.sampled_from(
    [
        *("! {}", "( {} )", "{{ {}\n}}", "if {}\nthen true; fi", "if true; then {}\nfi", 'echo "$( {} )"'),
        *("for i in 1 2; do {}\ndone", "f() {{ {}\n}}; f", "while {}\ndo break; done", "case a in a) {}\n;; esac"),
    ]
)
BETWEEN = st.sampled_from([" && ", " || ", "; ", "\n", " | ", " & "])
LINES = st.recursive(
    PIECES,
    lambda inner: st.tuples(inner, BETWEEN, inner).map("".join)
    | st.tuples(AROUND, inner).map(lambda pair: pair[0].format(pair[1])),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=LINES)
@example(line="nosuch; true")
@example(line="true || nosuch")
@example(line="nosuch() { :; }; nosuch")
@example(line="cp scripts/there.sh other.sh && ./other.sh")
def test_what_is_called_impossible_fails_in_bash(
    ground: RepositoryGrounding, checkout: Path, tmp_path_factory: pytest.TempPathFactory, line: str
) -> None:
    """It ends with an error, or something in it says that what it needs is not there."""
    why = ground.check_problem(line, [])
    if not why or why.startswith("bash can't read"):
        return
    folder = tmp_path_factory.mktemp("run")
    _git(checkout, "worktree", "add", "--quiet", "--detach", str(folder / "tree"))
    try:
        ran = subprocess.run(
            # What stands behind && is meant to be run.
            ["bash", "-c", line.replace(" && ", "; ")],
            cwd=folder / "tree",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=20,
        )
    finally:
        _git(checkout, "worktree", "remove", "--force", str(folder / "tree"))
    said = ("not found", "No such file", "Permission denied", "cannot open", "syntax error", "can't cd", "No rule to")
    assert ran.returncode != 0 or any(words in ran.stderr for words in said), why


def test_programs_are_named_by_all_checks_of_a_plan() -> None:
    commands = [
        "nosuch && ls",
        "timeout 5 other",
        "./script.sh; /opt/tool",
        "cd x; if third; then fourth; fi",
        "uv run a",
    ]
    tasks = tuple(
        TaskDoc(key=f"T{number}", title="t", checks=(CheckDoc(command=command),))
        for number, command in enumerate(commands)
    )
    plan = PlanDoc(summary="s", features=(FeatureDoc(key="F", title="F", tasks=tasks),))
    assert programs_named(plan) == {"nosuch", "ls", "timeout", "other", "/opt/tool", "uv"}


@pytest.mark.asyncio
@pytest.mark.usefixtures("each_sandbox")
async def test_programs_are_looked_up_in_the_sandbox(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        names = {"python3", "git", "nosuch", "-v", "a b; touch x", "/bin/sh", "/bin/nosuch", ""}
        there = await programs_look_up(workspace, names)
        assert {name for name, is_there in there.items() if is_there} == {"python3", "git", "/bin/sh"}
        assert set(there) == names - {""}
        assert await programs_look_up(workspace, []) == {}
    # Nobody answers: nothing is known.
    assert await programs_look_up(workspace, ["python3"]) == {}
