"""Public and private hosts: HTTP functions may connect to public ones only.

The rule is applied twice: to the host in the URL when a template is saved, and to the resolved address when a
request connects.
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
"""Suffixes of names that are only valid inside a network (RFC 6761, 6762, 8375, and common practice)."""

_NAT64 = IPv6Network("64:ff9b::/96")
_NEVER_IPV4 = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890), including Oracle Cloud's metadata service
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, withdrawn (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # Azure's platform services, in every virtual network of Azure
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # global unicast addresses (RFC 4291, section 2.4)
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is public. An IPv6 address that contains an IPv4 address is judged by the latter.

    False for loopback, private, link-local (including 169.254.169.254, the metadata service of clouds),
    shared (100.64.0.0/10), multicast, reserved and unspecified addresses, and for the public addresses of
    cloud platform services.
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
    """The address that a URL's host denotes, in any notation that ``inet_aton`` accepts; None for a name.

    HTTP clients use ``inet_aton``, for which ``127.1``, ``0x7f.0.0.1`` and ``2130706433`` are 127.0.0.1.
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
    """Whether a host name is only valid inside a network, e.g. ``localhost`` or ``db.internal``."""
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
