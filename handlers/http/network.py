"""Network backend that connects to public addresses only.

A name is resolved once for each connection, all its addresses are checked, and the connection goes to one of
these addresses. A name whose address changes between check and connection (DNS rebinding) therefore has no
effect. TLS verifies the certificate against the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import httpcore

from handlers.http.errors import AddressRefused
from templates.addresses import is_public

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text in order of preference; raises ``OSError`` if there are none."""

MAX_ADDRESSES = 4
ADDRESS_TIMEOUT_S = 1.0
"""Connect timeout in seconds for an address while there are further ones."""


async def system_resolve(host: str, port: int) -> list[str]:
    """Resolve with the system's resolver, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for an httpcore pool after checking the address."""

    def __init__(
        self,
        allow: frozenset[str] = frozenset(),
        resolve: Resolve = system_resolve,
        tcp: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """Create a backend.

        Args:
            allow: ``host:port`` as written in URLs, which may have any address.
            resolve: resolves host names; it is also called for hosts that are addresses.
            tcp: opens connections to checked addresses; None: the system's sockets.
        """
        self._allow = frozenset(entry.lower() for entry in allow)
        self._resolve = resolve
        self._tcp = tcp or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a checked address of ``host``.

        Raises:
            AddressRefused: one of the addresses is not public, and the host is not in ``allow``.
            httpcore.ConnectError: the host has no address, or no address accepts a connection.
        """
        addresses = await self._checked_addresses(host, port)
        for address in addresses[:-1]:
            try:
                return await self._tcp.connect_tcp(
                    address, port, ADDRESS_TIMEOUT_S, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._tcp.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raise ``AddressRefused``: Unix sockets are private."""
        raise AddressRefused

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._tcp.sleep(seconds)

    async def _checked_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address: {type(error).__name__}") from None
        if not addresses:
            raise httpcore.ConnectError("no address")
        spellings = {f"{host}:{port}".lower(), f"[{host}]:{port}".lower()}
        if not spellings & self._allow and not all(is_public(ip_address(address)) for address in addresses):
            raise AddressRefused
        return addresses[:MAX_ADDRESSES]
