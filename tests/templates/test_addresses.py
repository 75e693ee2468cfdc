"""Which hosts an HTTP function may reach."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from templates.addresses import is_internal_name, is_public, literal_address


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_open_internet(address: str) -> None:
    """Addresses of the open internet, also when an IPv6 address carries one, are public."""
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:0:0:0:0:80ff:fffe",
    ],
)
def test_not_on_the_open_internet(address: str) -> None:
    """Loopback, private, link-local, shared, reserved and carried addresses are not public."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_spelt_addresses(host: str, address: str) -> None:
    """An address is recognised however a system would read it."""
    assert literal_address(host) == ip_address(address)


def test_names_are_not_addresses() -> None:
    """A name is no address, even one that begins with digits."""
    assert literal_address("api.example.com") is None
    assert literal_address("4chan.org") is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "db",
        "metadata.google.internal",
        "printer.local",
        "x.localhost",
        "a.home.arpa",
    ],
)
def test_internal_names(host: str) -> None:
    """Names that mean something only inside a network are internal."""
    assert is_internal_name(host)


def test_public_names() -> None:
    """Names with a public suffix are not."""
    assert not is_internal_name("api.example.com")
    assert not is_internal_name("internal.example.com")
