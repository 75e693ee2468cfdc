"""Which hosts an HTTP function may reach: nothing inside our own network.

The same rule is asked twice: when a template is saved, of what stands in its URL, and when the request
connects, of the address that the name turned out to have (so that a name whose address changes in between
gains nothing).
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

INTERNAL_SUFFIXES = (
    ".internal",
    ".local",
    ".localhost",
    ".localdomain",
    ".lan",
    ".home.arpa",
    ".intranet",
    ".corp",
)
"""Names that only ever mean something inside a network (RFC 6761, 6762, 8375, and common practice)."""

_NAT64 = IPv6Network("64:ff9b::/96")
_NEVER_IPV4 = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890); Oracle's metadata is among them
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, withdrawn (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # Azure's platform, inside every virtual network of Azure
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that is assigned to the open internet (RFC 4291, 2.4)
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the open internet, IPv4 addresses carried inside IPv6 ones looked at as such.

    False for loopback, private, link-local (with 169.254.169.254, where clouds keep metadata and keys),
    shared (100.64.0.0/10), multicast, reserved and unspecified addresses, and the public addresses under
    which clouds serve their own platform.
    """
    if isinstance(address, IPv6Address):
        inner = _carried(address)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST or address in _DOCUMENTATION:
            return False
    elif any(address in network for network in _NEVER_IPV4):
        return False
    return address.is_global and not address.is_multicast


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a URL's host spells, in any way that a system would read as one, or None for a name.

    ``127.1``, ``0x7f.0.0.1`` and ``2130706433`` are all 127.0.0.1 to ``inet_aton``, which HTTP clients use.
    """
    bare = host.strip("[]").split("%", 1)[0]
    try:
        return ip_address(bare)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(bare)) if bare[:1].isdigit() else None
    except OSError:
        return None


def is_internal_name(host: str) -> bool:
    """Whether a host name can only mean something inside a network, as ``localhost`` or ``db.internal``."""
    name = host.rstrip(".").lower()
    return name == "localhost" or "." not in name or name.endswith(INTERNAL_SUFFIXES)


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
