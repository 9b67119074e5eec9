"""What is said to be missing when bubblewrap can't work in a container: exactly that, and how to bring it."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from apps.projects.sandbox.container_needs import Need, Signs, needs_judge

COVERED = ("/proc/kcore", "/proc/sys")


def missing(signs: Signs) -> dict[str, Need]:
    return {need.name: need for need in needs_judge(signs) if need.problem}


def test_nothing_is_missing_where_everything_works() -> None:
    assert missing(Signs(container="/.dockerenv", user_namespace=0, mounting=0, proc=0)) == {}


def test_dockers_default_profiles() -> None:
    signs = Signs(
        container="/.dockerenv",
        user_namespace=errno.EPERM,
        mounting=errno.EPERM,
        proc=errno.EPERM,
        filtered=True,
        apparmor="docker-default (enforce)",
        covered=COVERED,
    )
    found = missing(signs)
    assert list(found) == ["user namespaces", "mounting", "an unmasked /proc"]
    assert "seccomp profile" in found["user namespaces"].problem and "seccomp=" in found["user namespaces"].option
    assert "/proc/kcore" in found["an unmasked /proc"].problem
    assert "systempaths=unconfined" in found["an unmasked /proc"].option


def test_with_seccomp_out_of_the_way_apparmor_is_named() -> None:
    signs = Signs("/.dockerenv", 0, errno.EACCES, errno.EACCES, apparmor="docker-default (enforce)", covered=COVERED)
    found = missing(signs)
    assert "docker-default" in found["mounting"].problem
    assert found["mounting"].option == "--security-opt apparmor=unconfined"


def test_only_the_masked_proc_is_left() -> None:
    assert list(missing(Signs("/.dockerenv", 0, 0, errno.EPERM, covered=COVERED))) == ["an unmasked /proc"]


def test_the_hosts_kernel_is_named_with_its_setting() -> None:
    signs = Signs("/.dockerenv", errno.EPERM, errno.EPERM, errno.EPERM, kernel=("user.max_user_namespaces=0",))
    need = missing(signs)["user namespaces"]
    assert need.option == "on the host: sysctl -w user.max_user_namespaces=15000"


def test_root_without_power_is_told_to_be_somebody_else() -> None:
    need = missing(Signs("/.dockerenv", 0, 0, 0, powerless_root=True))["an ordinary user"]
    assert "--user" in need.option


@given(
    user_namespace=st.sampled_from([0, errno.EPERM, errno.ENOSPC, errno.EINVAL]),
    mounting=st.sampled_from([0, errno.EPERM, errno.EACCES]),
    proc=st.sampled_from([0, errno.EPERM, errno.EACCES]),
    filtered=st.booleans(),
    apparmor=st.sampled_from(["", "docker-default (enforce)"]),
    covered=st.sampled_from([(), COVERED]),
)
def test_what_did_not_work_is_a_problem_with_an_option_and_what_worked_is_none(
    user_namespace: int, mounting: int, proc: int, filtered: bool, apparmor: str, covered: tuple[str, ...]
) -> None:
    signs = Signs("", user_namespace, mounting, proc, filtered, apparmor, covered)
    needs = {need.name: need for need in needs_judge(signs)}
    for name, error in (("user namespaces", user_namespace), ("mounting", mounting), ("an unmasked /proc", proc)):
        assert bool(needs[name].problem) == bool(needs[name].option) == (error != 0)
