"""Connections to the open internet only: the address that is checked is the address that is connected to.

A name is resolved once for each connection; every address it has is checked, and one of exactly these is
connected to. So a name whose address changes between a check and a connection (DNS rebinding) gains nothing.
TLS still verifies the certificate against the name.
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
"""(host, port) → its addresses as text, the preferred one first; raises ``OSError`` when there is none."""

MAX_ADDRESSES = 4
NEXT_ADDRESS_S = 1.0
"""How long an address may stay silent while there is another to try."""


async def system_resolve(host: str, port: int) -> list[str]:
    """What this machine's resolver says, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for an httpcore pool, after a look at where they lead."""

    def __init__(
        self,
        allow: frozenset[str] = frozenset(),
        resolve: Resolve = system_resolve,
        tcp: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """Check what ``resolve`` says, then connect by ``tcp``, which is given checked addresses only.

        Args:
            allow: ``host:port`` as URLs spell them, which are reached wherever they are.
            resolve: names to addresses; addresses are asked for too, in whatever way they are spelt.
            tcp: None: sockets of this machine.
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
            AddressRefused: one of its addresses is not public, and the host is not allowed by name.
            httpcore.ConnectError: it has no address, or none that answers.
        """
        addresses = await self._checked(host, port)
        for address in addresses[:-1]:
            try:
                return await self._tcp.connect_tcp(
                    address, port, NEXT_ADDRESS_S, local_address, socket_options
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
        """Never: a socket of this machine is as private as an address can be."""
        raise AddressRefused

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._tcp.sleep(seconds)

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address: {type(error).__name__}") from None
        if not addresses:
            raise httpcore.ConnectError("no address")
        named = {f"{host}:{port}".lower(), f"[{host}]:{port}".lower()}
        if not named & self._allow and not all(is_public(ip_address(address)) for address in addresses):
            raise AddressRefused
        return addresses[:MAX_ADDRESSES]
