"""The configuration of nginx in the guide to scaling, as nginx itself runs it in front of two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.server_fixture import RunningServer, Tenant, client, http_client, serving
from tests.api.twilio import StandIn, Twilio, called, close_code
from voicebot.config import Settings

NGINX = shutil.which("nginx")
SECRET = {"VOICEBOT_SECRET_KEY": "a secret key that both replicas have"}
GUIDE = Path(__file__).parents[2] / "docs/guides/scale.md"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"),
]


@dataclass(frozen=True, slots=True)
class Proxy:
    """Two replicas behind nginx."""

    url: str
    replicas: Sequence[RunningServer]

    def registry(self, number: int) -> StandIn:
        """What takes the calls of a replica."""
        found = self.replicas[number].app_state.call_registry
        assert isinstance(found, StandIn)
        return found


def configuration(port: int, upstreams: Sequence[str], directory: Path) -> str:
    """Return the guide's configuration with other ports, without TLS, and without root's directories."""
    (text,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    for number, url in enumerate(upstreams, 1):
        text = text.replace(f"127.0.0.1:800{number}", url.removeprefix("http://"))
    paths = "".join(
        f"{kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"pid {directory}/pid;\nerror_log {directory}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{text}\n}}\n"
    )


@contextlib.asynccontextmanager
async def nginx(upstreams: Sequence[str]) -> AsyncIterator[str]:
    """Run nginx on a free port in front of these servers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        path = _write(Path(directory), port, upstreams)
        assert NGINX is not None
        process = await asyncio.create_subprocess_exec(
            NGINX, "-c", str(path), "-e", f"{directory}/error.log", "-g", "daemon off; master_process off;"
        )
        try:
            async with asyncio.timeout(30):
                while not await _accepts(port):
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


def _write(directory: Path, port: int, upstreams: Sequence[str]) -> Path:
    path = directory / "nginx.conf"
    path.write_text(configuration(port, upstreams, directory))
    return path


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@pytest.fixture
async def proxy(settings: Settings, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Two replicas behind nginx."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        for number in range(2):
            own = {**SECRET, "VOICEBOT_DATA_DIR": str(tmp_path / str(number))}
            replica = await stack.enter_async_context(serving(settings.replace(own)))
            replica.app_state.call_registry = StandIn()
            replicas.append(replica)
        url = await stack.enter_async_context(nginx([replica.url for replica in replicas]))
        yield Proxy(url, replicas)


@pytest.fixture
def server(proxy: Proxy) -> RunningServer:
    """The replica at which the account is made."""
    return proxy.replicas[0]


@pytest.fixture
async def twilio(proxy: Proxy, tenant: Tenant) -> Twilio:
    """A call whose requests go through nginx."""
    twilio = await called(proxy.replicas[0], tenant)
    through = Twilio(proxy, twilio.form["To"])
    through.form = twilio.form
    return through


async def test_a_call_goes_through_nginx(proxy: Proxy, twilio: Twilio, tenant: Tenant) -> None:
    """Webhook, media socket, API and the end of a call work through the guide's configuration."""
    token = (await twilio.post("voice")).token
    async with twilio.media(token) as media:
        async with asyncio.timeout(30):
            arrivals = [asyncio.ensure_future(proxy.registry(n).arrived.wait()) for n in range(2)]
            await asyncio.wait(arrivals, return_when=asyncio.FIRST_COMPLETED)
        (call,) = [call for n in range(2) for call in proxy.registry(n).answered.values()]
        for arrival in arrivals:
            arrival.cancel()
        holder = next(n for n in range(2) if call.id in proxy.registry(n).answered)
        await proxy.registry(holder).end(call.id, ended_by="caller", reason="hangup")
        assert await close_code(media) == 1000
        async with client(proxy.url, tenant.keys["viewer"]) as api:
            assert (await api.get(f"/calls/{call.id}")).json()["carrier_call_id"] == twilio.call_sid


async def test_webhooks_are_answered_when_a_replica_is_gone(proxy: Proxy, twilio: Twilio) -> None:
    """nginx sends a webhook to the other replica when one does not accept connections."""
    gone = proxy.replicas[0].call_server
    for listening in gone.servers:
        listening.close()
    for _ in range(4):
        assert (await twilio.post("voice")).token


async def test_a_chat_stays_at_its_replica(proxy: Proxy, tenant: Tenant) -> None:
    """All requests of a conversation reach the replica where it began."""
    agent = await tenant.agent(greeting={"text": "Hello."})
    path = f"/templates/{agent['id']}/chat"
    async with client(proxy.url, tenant.keys["author"]) as api:
        begun = await api.post(path, json={})
        assert begun.status_code == 200, begun.text
        for _ in range(6):
            assert (await api.post(path, json={"chat_id": begun.json()["chat_id"]})).status_code == 200


async def test_metrics_are_not_for_the_outside(proxy: Proxy) -> None:
    """/metrics is refused by nginx, /healthz is answered."""
    async with http_client() as outside:
        assert (await outside.get(f"{proxy.url}/metrics")).status_code == 403
        assert (await outside.get(f"{proxy.url}/healthz")).json() == {"status": "ok"}
