"""Which addresses are public, whatever they are wrapped in, and which hosts a list names."""

from __future__ import annotations

import pytest

from apps.core.outbound import address_is_public, host_is_listed


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert address_is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "nonsense",
    ],
)
def test_everything_else_is_not(address: str) -> None:
    assert not address_is_public(address)


def test_a_host_is_listed_by_name_port_or_domain() -> None:
    assert host_is_listed("git.example", 443, listed=["git.example"])
    assert host_is_listed("GIT.example.", 443, listed=["git.example:443"])
    assert not host_is_listed("git.example", 22, listed=["git.example:443"])
    assert host_is_listed("a.b.example", 443, listed=["*.example"])
    assert not host_is_listed("example", 443, listed=["*.example"])
    assert not host_is_listed("notexample", 443, listed=["*.example", "example"])
    assert host_is_listed("::1", 80, listed=["[::1]:80"])
    assert not host_is_listed("git.example", 443, listed=["", "git.example:port", "*"])
