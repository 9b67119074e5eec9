"""What a checkout declares in any of the usual places is in its set-up, and in the key of the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.projects.environment.detection import environment_detect, is_setup_file

PROJECT = '[project]\nname="a"\n'
EXTRAS = PROJECT + "[project.optional-dependencies]\n"
POETRY = '[tool.poetry]\nname="a"\n[tool.poetry.group.test.dependencies]\nfreezegun="^1.2"\npretend="*"'
SETUP_PY = "from setuptools import setup\nextras={'testing': ['x']}\nsetup(name='a', extras_require=extras)\n"
TOX = "[testenv]\ndeps =\n    pretend  # why\n    -r more.txt\n    py27: old\n    {env:X}\n"
THREE_FILES = {"requirements.txt": "x\n", "requirements-dev.txt": "y\n", "requirements_test.txt": "z\n"}
TEST = {"tests/test_a.py": "def test_a(): pass\n"}


def detect(folder: Path, files: dict[str, str], command: str = ""):  # type: ignore[no-untyped-def]
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return environment_detect(checkout=folder, setup_command=command)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (TEST, ["pytest"]),
        ({"pyproject.toml": EXTRAS + 'test=["x"]\ndocs=["y"]\ndev=["z"]'}, ["-e '.[test]'"]),
        ({"pyproject.toml": EXTRAS + 'dev=["z"]\ndocs=["y"]'}, ["-e '.[dev]'"]),
        ({"pyproject.toml": PROJECT + '[dependency-groups]\ntests=["x"]\nlint=["y"]'}, ["-e .", "--group tests"]),
        ({"pyproject.toml": POETRY}, ["'freezegun>=1.2'", "pretend"]),
        ({"setup.py": SETUP_PY}, ["-e '.[testing]'"]),
        ({"setup.cfg": "[metadata]\nname = a\n[options.extras_require]\nTests = x\n"}, ["-e '.[Tests]'"]),
        (THREE_FILES, ["-r requirements.txt -r requirements_test.txt"]),
        ({"requirements.txt": "x\n", "requirements/dev.txt": "y\n"}, ["-r requirements.txt -r requirements/dev.txt"]),
        ({"tests/requirements.txt": "x\n", **TEST}, ["-r tests/requirements.txt"]),
        ({"tox.ini": TOX, "more.txt": "x\n", **TEST}, ["-r more.txt", "pretend"]),
        ({"setup.cfg": "[tool:pytest]\naddopts = --cov=a -n auto\n", **TEST}, ["pytest-cov", "pytest-xdist"]),
        ({"tests/test_a.py": "import freezegun\ndef test_a(mocker): pass\n"}, ["freezegun", "pytest-mock"]),
    ],
)  # fmt: skip
def test_declared_dependencies_are_installed(tmp_path: Path, files: dict[str, str], parts: list[str]) -> None:
    spec = detect(tmp_path, files)
    assert spec.ecosystem == "python"
    for part in parts:
        assert part in spec.setup_command
    assert "docs" not in spec.setup_command and "lint" not in spec.setup_command and "old" not in spec.setup_command


def test_without_dependencies_there_is_nothing_to_set_up(tmp_path: Path) -> None:
    assert detect(tmp_path, {"a.c": "int x;\n", "notes.txt": "x\n"}).setup_command == ""


def test_broken_files_do_not_stop_it(tmp_path: Path) -> None:
    broken = {"pyproject.toml": "[[[", "setup.cfg": "no section", "setup.py": "def (", "tox.ini": "\0", **TEST}
    (tmp_path / "requirements.txt").symlink_to("/etc/passwd")
    spec = detect(tmp_path, broken)
    assert (
        spec.ecosystem == "python"
        and "passwd" not in spec.setup_command
        and "requirements.txt" not in spec.setup_command
    )


def test_names_from_files_stay_words(tmp_path: Path) -> None:
    spec = detect(tmp_path, {"requirements.txt": "x\n", "requirements-test; touch x.txt": "y\n", **TEST})
    assert "; touch" not in spec.setup_command.replace("'requirements-test; touch x.txt'", "")


def test_the_key_follows_what_decides_the_environment(tmp_path: Path) -> None:
    first = detect(tmp_path, {"requirements.txt": "x\n", "src/a.py": "1\n", **TEST})
    assert detect(tmp_path, {"src/a.py": "2\n"}).key == first.key
    assert detect(tmp_path, {"requirements.txt": "y\n"}).key != first.key
    assert detect(tmp_path, {"requirements.txt": "x\n"}).key == first.key
    assert detect(tmp_path, {"src/fast.pyx": "1\n"}).key != first.key
    assert detect(tmp_path, {}, "make deps").key != first.key
    assert is_setup_file("a/pyproject.toml") and is_setup_file("x.c") and not is_setup_file("a.py")


def test_a_source_archive_tells_its_version(tmp_path: Path) -> None:
    spec = detect(tmp_path, {"PKG-INFO": "Metadata-Version: 2.1\nName: a\nVersion: 1.2.post3\n", "setup.py": ""})
    assert spec.variables["SETUPTOOLS_SCM_PRETEND_VERSION"] == "1.2.post3"


def test_a_given_command_is_used_as_it_is(tmp_path: Path) -> None:
    spec = detect(tmp_path, {"requirements.txt": "x\n"}, "make deps")
    assert spec.setup_command.endswith("make deps\n") and "requirements" not in spec.setup_command
