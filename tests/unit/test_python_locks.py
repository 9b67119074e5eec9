"""Lock files of every tool hold an environment to their versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.ecosystems.python_locks import locked_versions
from apps.projects.environment import environment_detect

UV = """
version = 1

[[package]]
name = "Flask_Thing"
version = "3.0.1"
source = { registry = "https://packages.example/simple" }

[[package]]
name = "numpy"
version = "1.26.4"

[[package]]
name = "numpy"
version = "2.1.0"

[[package]]
name = "pytest"
version = "9.0.2"
resolution-markers = ["python_full_version >= '3.13'", "python_full_version >= '3.10' and python_full_version < '3.13'"]

[[package]]
name = "pytest"
version = "8.4.2"
resolution-markers = ["python_full_version < '3.10'"]

[[package]]
name = "mine"
version = "0.1.0"
source = { editable = "." }
"""
PIPFILE = json.dumps({"default": {"flask-thing": {"version": "==3.0.1"}}, "develop": {"x": {"git": "y"}}})


def test_of_several_versions_the_one_for_this_python_counts(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV)
    assert locked_versions(tmp_path) == {"flask-thing": "3.0.1", "pytest": "9.0.2"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poetry.lock", '[[package]]\nname = "flask-thing"\nversion = "3.0.1"\n'),
        ("pdm.lock", '[[package]]\nname = "flask.thing"\nversion = "3.0.1"\n'),
        ("pylock.toml", '[[packages]]\nname = "flask-thing"\nversion = "3.0.1"\n'),
        ("Pipfile.lock", PIPFILE),
    ],
)
def test_a_lock_file_holds_packages_to_their_one_version(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert locked_versions(tmp_path) == {"flask-thing": "3.0.1"}


def test_the_set_up_installs_at_the_locked_versions_first_and_without_them_otherwise(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\nversion = '0.1.0'\n")
    script = environment_detect(checkout=tmp_path).setup_command
    assert "\nflask-thing==3.0.1\npytest==9.0.2\nARCHON_END\n" in script
    assert script.index("export UV_CONSTRAINT") < script.index("install -e .") < script.index("unset UV_CONSTRAINT")
    (tmp_path / "uv.lock").unlink()
    assert "UV_CONSTRAINT" not in environment_detect(checkout=tmp_path).setup_command


@pytest.mark.parametrize(
    "text",
    [
        '[[package]]\nname = "a; rm -rf"\nversion = "1"\n',
        '[[package]]\nname = "a"\nversion = "1\\nARCHON_END\\nevil"\n',
        '[[package]]\nname = ["a"]\nversion = 1\n',
        "package = 3\n",
        "[[package]",
    ],
)
def test_names_that_are_none_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "uv.lock").write_text(text)
    assert locked_versions(tmp_path) == {}


@given(content=st.binary(max_size=200), name=st.sampled_from(["uv.lock", "Pipfile.lock"]))
def test_any_file_can_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    folder = tmp_path_factory.mktemp("lock")
    (folder / name).write_bytes(content)
    assert isinstance(locked_versions(folder), dict)
