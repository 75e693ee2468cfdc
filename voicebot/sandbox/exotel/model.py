"""The records of the simulated Exotel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DisconnectedBy = Literal["user", "bot", "NA"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExotelSettings:
    """An account of the simulated Exotel and the server its flow points to. No slash at the end of URLs."""

    public_url: str
    """What the server believes to be its own address."""
    secret: str = field(repr=False)
    """The secret in the URLs of the flow."""
    server_url: str | None = None
    """Where the server really listens, when a proxy would stand at `public_url`."""
    account_sid: str = "exosandbox"
    api_key: str = "exotel-sandbox-key"
    api_token: str = field(default="exotel-sandbox-token", repr=False)
    flow_id: str = "1"
    """The id of its flow, for calls that are placed into it."""
    applet_timeout_s: float = 5.0
    handshake_timeout_s: float = 10.0

    def applet_url(self, webhook: str) -> str:
        """The URL of an applet of the flow."""
        return f"{self.public_url}/webhooks/exotel/{self.secret}/{webhook}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExotelMisbehaviour:
    """What happens in one call that is out of the ordinary; by default nothing."""

    picked_up: asyncio.Event | None = None
    """When a person who was dialled picks up; None: when their telephone's time is over."""
    requests: int = 1
    """How often each applet asks; the last answer is followed."""
    method: Literal["GET", "POST"] = "GET"
    """How the applets ask; POST sends JSON."""
    failed_handshakes: int = 0
    """How many connections break before `start`."""
    drop_after_ms: float | None = None
    """When the first connection breaks without `stop`, in ms since the stream opened."""
    session_limit_ms: float | None = None
    """After what time each session ends with the reason `stopped`; Exotel's limit is 60 minutes."""
    stop: bool = True
    """Whether `stop` is sent when the caller hangs up."""
    asks_after_hang_up: bool = False
    """Whether the flow continues to its Passthru applets although the caller has hung up."""
    marks: bool = True
    """Whether marks are returned."""
    encoding: Literal["pcm", "mulaw"] = "pcm"
    sample_rate: int | None = None
    """Of the stream, in Hz; None: what its address asks for."""
    connected_status: bool = True
    """Whether the Passthru applet behind Connect gets the result of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """The parameters of the Passthru applets about the stream that has ended."""

    sid: str
    url: str
    status: Literal["completed", "failed", "cancelled"]
    duration_s: int
    by: DisconnectedBy
    error: str = ""

    def fields(self) -> Mapping[str, str]:
        """The parameters of a Passthru applet."""
        return {
            "Stream[StreamSID]": self.sid,
            "Stream[Status]": self.status,
            "Stream[Duration]": str(self.duration_s),
            "Stream[StreamUrl]": self.url,
            "Stream[DisconnectedBy]": self.by,
            "Stream[Error]": self.error,
        }
