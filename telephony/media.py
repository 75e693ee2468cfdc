"""The `MediaStream` protocol: the audio of one answered call, independent of the carrier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from telephony.playout import MarkOutcome, Playout

if TYPE_CHECKING:  # slow to import, and used in annotations only
    from pipecat.frames.frames import Frame
    from pipecat.transports.base_transport import BaseTransport


DIRECT_MESSAGES = "voicebot.direct_messages"
"""An extension of ASGI: after `scope["extensions"][DIRECT_MESSAGES]["deliver"](consumer)` the server calls
`consumer` with each `websocket.receive` message as soon as it is read, starting with those that wait.
`receive` then returns only the disconnect. Without the extension, each 20 ms of audio wakes a task and stops
and restarts the reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStart:
    """The carrier's start message. `token` is the one given to `Carrier.answer`, or "" if absent.

    `caller` is the caller's number, E.164 or the carrier's word for a withheld one; "" if it is not told.
    """

    stream_id: str
    carrier_call_id: str
    account_ref: str
    token: str
    parameters: Mapping[str, str]
    caller: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkEcho:
    """A mark returned by the carrier: the audio before it was `played`, or `cleared`."""

    name: str
    outcome: MarkOutcome


# Close codes of RFC 6455 section 7.4.1, with which a socket is closed for what the carrier has sent.
UNREADABLE = 1007
TOO_BIG = 1009


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaClosed:
    """The end of the media socket. `announced` is True if the carrier sent a stop message before."""

    by: Literal["carrier", "us"]
    code: int
    reason: str
    announced: bool

    @property
    def is_lost(self) -> bool:
        """Whether the stream was lost: the socket broke, or the carrier's messages could not be read."""
        return self.code in (UNREADABLE, TOO_BIG) if self.by == "us" else not self.announced


class MediaStream(Protocol):
    """The audio of one answered call, and an estimate of what the caller heard.

    Observers are called on the event loop and must return immediately (set an event, start a task). Register
    them before the pipeline starts.
    """

    @property
    def start(self) -> MediaStart:
        """The start message."""
        ...

    @property
    def sample_rate(self) -> int:
        """The rate of the audio in both directions, in Hz: what the carrier's stream has."""
        ...

    @property
    def transport(self) -> BaseTransport:
        """The pipeline's transport; the audio frames it takes are 16-bit mono PCM at `sample_rate`."""
        ...

    @property
    def playout(self) -> Playout:
        """Estimate of the audio that the caller has heard; its times are those of `now_ms`."""
        ...

    def now_ms(self) -> float:
        """Time in ms on a monotonic clock, for `playout`."""
        ...

    def mark_frame(self, name: str) -> Frame:
        """A frame that, pushed through `transport.output()`, marks the end of the audio queued before it.

        Push it after the `TTSStoppedFrame` of the speech, which flushes the last part of a chunk. An
        interruption drops it together with the audio before it, unless its `interruptible` is False.
        """
        ...

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until all audio sent so far was heard, cleared, or cut off by the end of the stream.

        Audio in the pipeline's queues has not been sent: flush the pipeline first.

        Returns:
            False if it took longer than `timeout_s`.
        """
        ...

    def on_audio(self, observer: Callable[[bytes], None]) -> None:
        """Call `observer` with the caller's audio as it arrives: 16-bit mono PCM at `sample_rate`.

        The transport's input has no audio frames: every stage of a pipeline would pass them on.
        """
        ...

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Call `observer` for each returned mark that `mark_frame` made, in order."""
        ...

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Call `observer` for each key that the caller pressed: one of `0123456789*#ABCD`."""
        ...

    def on_stop(self, observer: Callable[[], None]) -> None:
        """Call `observer` when the carrier announces the end: the call ended or was transferred."""
        ...

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Call `observer` once when the socket is closed by either side."""
        ...

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the socket with a code; no effect if it is closed."""
        ...

    async def close(self) -> None:
        """Close the socket normally (1000); harmless if it is already closed."""
        ...
