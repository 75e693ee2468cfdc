"""Where a request may go: looked at on the address that is connected to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from handlers.http import CheckedNetwork, HttpClient, HttpRequest
from handlers.http.errors import AddressRefused, RedirectRefused, Unreachable
from handlers.http.request import build
from tests.handlers.http_harness import (
    LoopbackBackend,
    ScriptedResolver,
    ServerAnswer,
    http_function,
    running_server,
)

PUBLIC = "93.184.216.34"


def get(url: str, **fields: object) -> HttpRequest:
    return build(http_function(url=url, retries=0, **fields), {}, {}, str)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",  # noqa: S104
    ],
)
async def test_loopback_is_refused_in_every_notation(host: str) -> None:
    """A loopback server that is not allowed gets no connection, in any notation of its address."""
    async with running_server() as server:
        http_client = HttpClient(CheckedNetwork())
        with pytest.raises(AddressRefused):
            await http_client.send(get(f"http://{host}:{server.port}/"))
        assert server.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["192.0.0.192"],
        ["168.63.129.16"],
        ["100.100.100.200"],
        ["224.0.0.1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["fd00:ec2::254"],
        ["fe80::1%1"],
        [PUBLIC, "10.1.2.3"],
        ["10.1.2.3", PUBLIC],
    ],
)
async def test_name_with_a_private_address_is_refused(addresses: Sequence[str]) -> None:
    """A name is refused if one of its addresses is private, and no connection is opened."""
    dialled = LoopbackBackend()
    http_client = HttpClient(CheckedNetwork(resolve=ScriptedResolver(addresses), tcp=dialled))
    with pytest.raises(AddressRefused):
        await http_client.send(get("https://api.example.com/"))
    assert dialled.addresses == []


async def test_connection_goes_to_the_checked_address() -> None:
    """The connection goes to a checked address, and a changed address is checked again."""
    names, dialled = ScriptedResolver([PUBLIC], ["127.0.0.1"]), LoopbackBackend()
    async with running_server(ServerAnswer(headers={"Connection": "close"})) as server:
        http_client = HttpClient(CheckedNetwork(resolve=names, tcp=dialled))
        url = f"http://api.example.com:{server.port}/"
        assert (await http_client.send(get(url))).status == 200
        assert names.asked == [("api.example.com", server.port)]
        assert dialled.addresses == [PUBLIC]
        assert server.seen[0].headers["host"] == f"api.example.com:{server.port}"
        await http_client.close()
        with pytest.raises(AddressRefused):
            await HttpClient(CheckedNetwork(resolve=names, tcp=dialled)).send(get(url))
        assert dialled.addresses == [PUBLIC]


async def test_allowed_host_is_matched_with_its_port() -> None:
    """An exception applies to one host and port only."""
    async with running_server() as server, running_server() as other:
        http_client = HttpClient(CheckedNetwork(frozenset({f"LocalHost:{server.port}"})))
        assert (await http_client.send(get(f"http://localhost:{server.port}/"))).status == 200
        for url in (f"http://127.0.0.1:{server.port}/", f"http://localhost:{other.port}/"):
            with pytest.raises(AddressRefused):
                await http_client.send(get(url))
        await http_client.close()


async def test_redirect_to_a_private_address_is_refused() -> None:
    """A redirect to a private address is refused when the connection is opened."""
    async with running_server() as secret:
        async with running_server(
            ServerAnswer(status=302, headers={"Location": f"{secret.url}/keys"})
        ) as server:
            http_client = HttpClient(CheckedNetwork(frozenset({server.address})))
            with pytest.raises(AddressRefused):
                await http_client.send(get(server.url))
            await http_client.close()
        assert secret.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "ftp://x.test/",
        "file:///etc/passwd",
        "http://user:pw@x.test/",
        "//:0",
        "http://[",
        "http://x.test:99999/",
    ],
)
async def test_redirect_to_another_scheme_is_refused(location: str) -> None:
    """A redirect to anything but an http or https URL is refused."""
    async with running_server(ServerAnswer(status=301, headers={"Location": location})) as server:
        http_client = HttpClient(
            CheckedNetwork(frozenset({server.address}), resolve=ScriptedResolver(["127.0.0.1"]))
        )
        with pytest.raises((RedirectRefused, AddressRefused)):
            await http_client.send(get(server.url))
        await http_client.close()


async def test_next_address_is_tried() -> None:
    """If an address refuses the connection, the next one is tried."""

    class FirstIsDead(LoopbackBackend):
        async def connect_tcp(self, host: str, port: int, *rest: object, **named: object) -> object:  # type: ignore[override]
            if host == "2606:4700::1111":
                self.addresses.append(host)
                raise httpcore.ConnectError("unreachable")
            return await super().connect_tcp(host, port, *rest, **named)

    dialled = FirstIsDead()
    async with running_server() as server:
        http_client = HttpClient(
            CheckedNetwork(resolve=ScriptedResolver(["2606:4700::1111", PUBLIC]), tcp=dialled)
        )
        assert (await http_client.send(get(f"http://api.example.com:{server.port}/"))).status == 200
        await http_client.close()
    assert dialled.addresses == ["2606:4700::1111", PUBLIC]


async def test_unresolvable_name_is_unreachable() -> None:
    """A name that does not resolve raises Unreachable."""

    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror("unknown")

    for resolve in (unknown, ScriptedResolver([])):
        with pytest.raises(Unreachable):
            await HttpClient(CheckedNetwork(resolve=resolve)).send(get("https://nobody.example.com/"))


async def test_unix_sockets_are_refused() -> None:
    """Unix sockets are refused."""
    with pytest.raises(AddressRefused):
        await CheckedNetwork().connect_unix_socket("/var/run/docker.sock")


def certified(name: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server called ``name``, and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = directory / "server.pem"
    pem.write_bytes(certificate + key.private_bytes(serialization.Encoding.PEM, *plain))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=certificate.decode())


async def test_tls_is_verified_by_name(tmp_path: Path) -> None:
    """The certificate is verified against the URL's name, although the connection goes to an address."""
    server_tls, tls = certified("api.example.com", tmp_path)
    asked_for: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    async with running_server(ssl=server_tls) as server:
        http_client = HttpClient(
            CheckedNetwork(resolve=ScriptedResolver([PUBLIC]), tcp=LoopbackBackend()), tls=tls
        )
        assert (await http_client.send(get(f"https://api.example.com:{server.port}/"))).status == 200
        with pytest.raises(Unreachable):
            await http_client.send(get(f"https://other.example.com:{server.port}/"))
        await http_client.close()
        assert len(server.seen) == 1
    assert asked_for == ["api.example.com", "other.example.com"]
