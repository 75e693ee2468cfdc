"""The open connections of this process: how many there may be, and how long a client may take to send.

A connection on which a request is pending (its headers or body are incomplete) has a deadline, and is the
first to be closed when the limit of all connections is reached. A client that sends its request at once, as
carriers do, is therefore served however many connections are idle.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from loguru import logger

from voicebot.api.limits import Limit, Limits, limit_exceeded
from voicebot.api.problems import ApiProblem

if sys.platform != "win32":
    import resource

WARNING_INTERVAL_S = 10.0
"""How often the same alarm is logged at most."""

_IPV6_CLIENT_BITS = 64
_RESERVE = 0.1
_DESCRIPTORS_USED = 0.9


def descriptor_limit() -> int:
    """How many files and sockets this process may have open at once."""
    return 2**13 if sys.platform == "win32" else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Connection(Protocol):
    """A connection that can be closed to make room for another one."""

    def drop(self) -> None:
        """Close it at once."""
        ...


class Connections:
    """The open connections; those with a pending request are kept in the order in which it began."""

    def __init__(
        self,
        limits: Limits,
        on_limit: Callable[[Limit], None],
        now_s: Callable[[], float],
        descriptors: Callable[[], int] = descriptor_limit,
    ) -> None:
        """Enforce ``limits``.

        Args:
            limits: the limits.
            on_limit: called when one of them is reached.
            now_s: a monotonic clock, in seconds.
            descriptors: how many files and sockets the process may have open. Connections take at most half.
        """
        self._limits = limits
        self._descriptors = descriptors
        self._most = min(limits.connections, descriptors() // 2)
        self._on_limit = on_limit
        self._now_s = now_s
        self._addresses: dict[Connection, str] = {}
        self._per_address: Counter[str] = Counter()
        self._pending: dict[Connection, None] = {}
        self._logged_at: dict[Limit, float] = {}

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._addresses)

    @property
    def only_carriers(self) -> bool:
        """Whether only the connections reserved for carriers are left."""
        busy = len(self._addresses) - len(self._pending)
        return busy > self._most * (1 - _RESERVE)

    def opened(self, connection: Connection, address: str | None) -> ApiProblem | None:
        """Count a new connection; the problem if it is one too many.

        Args:
            connection: the connection.
            address: the group of addresses that it is counted for (``client_group``); None: it is not.
        """
        if address is not None and self._per_address[address] >= self._limits.connections_per_address:
            self.reached("connections_per_address", f"{address} has too many connections")
            return limit_exceeded(
                "connections_per_address",
                "rate_limited",
                "There are too many connections from this address.",
                retry_after_s=1,
            )
        if len(self._addresses) >= self._most:
            self.reached("connections", f"there are {len(self._addresses)} connections")
            if not self._pending:
                return limit_exceeded(
                    "connections", "overloaded", "The server has too many connections.", retry_after_s=1
                )
            oldest = next(iter(self._pending))
            self.closed(oldest)
            oldest.drop()
        self._addresses[connection] = address or ""
        if address is not None:
            self._per_address[address] += 1
        return None

    def upgraded(self, connection: Connection) -> None:
        """Count a connection that was admitted as HTTP and has become a WebSocket."""
        self._addresses[connection] = ""

    def request_pending(self, connection: Connection) -> None:
        """Record that a request, or the rest of one, is to come from the client."""
        if connection in self._addresses:
            self._pending.pop(connection, None)
            self._pending[connection] = None

    def request_received(self, connection: Connection) -> None:
        """Record that the client has sent its whole request."""
        self._pending.pop(connection, None)

    def closed(self, connection: Connection) -> None:
        """A connection ended; no effect if it was not counted."""
        self._pending.pop(connection, None)
        address = self._addresses.pop(connection, "")
        if address:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def reached(self, limit: Limit, detail: str) -> None:
        """Count that a limit was reached, and log it from time to time."""
        self._on_limit(limit)
        now_s = self._now_s()
        if now_s - self._logged_at.get(limit, -WARNING_INTERVAL_S) >= WARNING_INTERVAL_S:
            self._logged_at[limit] = now_s
            logger.warning("the limit {} was reached: {}", limit, detail)

    def check_descriptors(self) -> None:
        """Raise the alarm if nearly all descriptors of this process are in use.

        A new descriptor gets the lowest free number, so all below it are in use.
        """
        limit = self._descriptors()
        try:
            lowest_free = os.dup(0)
        except OSError:
            lowest_free = limit
        else:
            os.close(lowest_free)
        if lowest_free >= limit * _DESCRIPTORS_USED:
            self.reached("descriptors", f"{lowest_free} of {limit} file descriptors are in use")


@lru_cache(maxsize=4096)
def client_group(host: str, proxies: str) -> str | None:
    """The addresses with which ``host`` is counted: itself, or its network if it is IPv6.

    Args:
        host: the address of a peer.
        proxies: addresses and networks whose connections are not limited, separated by commas; ``*``: all.

    Returns:
        None if the connections of the peer are not limited per address, because it is a proxy.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if proxies == "*" or any(_contains(proxy.strip(), address) for proxy in proxies.split(",")):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_CLIENT_BITS), strict=False))
    return str(address)


def _contains(proxy: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(proxy, strict=False)
    except ValueError:
        return False
