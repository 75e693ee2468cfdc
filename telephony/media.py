"""The audio of one answered call as the rest of the program sees it, whatever the carrier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from telephony.playout import MarkFate, Playout

if TYPE_CHECKING:  # slow to import, and only named here
    from pipecat.frames.frames import Frame
    from pipecat.transports.base_transport import BaseTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStart:
    """What the carrier said when it opened the stream; `token` is what `answer` gave it, "" if none came."""

    stream_id: str
    carrier_call_id: str
    account_ref: str
    token: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkEcho:
    """A mark that came back: `played` to its end, or `cleared` together with the audio before it."""

    name: str
    fate: MarkFate


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaClosed:
    """How the media socket ended. `announced` is true if the carrier had said that the stream stops."""

    by: Literal["carrier", "us"]
    code: int
    reason: str
    announced: bool


class MediaStream(Protocol):
    """The audio of one answered call: 8 kHz both ways, and the knowledge of what of ours was heard.

    The observers are plain functions called on the event loop; they must return at once (set an event,
    start a task). Register them before the pipeline starts.
    """

    @property
    def start(self) -> MediaStart:
        """The facts of the stream's start."""
        ...

    @property
    def transport(self) -> BaseTransport:
        """What the pipeline begins and ends with; its frames are 16-bit mono PCM at 8000 Hz."""
        ...

    @property
    def playout(self) -> Playout:
        """The model of what was heard of what we sent; times are those of `now_ms`."""
        ...

    def now_ms(self) -> float:
        """The clock of `playout`: milliseconds, monotonic."""
        ...

    def mark_frame(self, name: str) -> Frame:
        """A frame that, pushed through `transport.output()`, marks the end of the audio queued before it.

        Push it after the speech's `TTSStoppedFrame` (which flushes the last part of a chunk). An
        interruption drops it together with the audio that it follows, unless its `interruptible` is set
        False.
        """
        ...

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until what was sent until now was heard, cleared or cut off by the stream's end; False if that
        took longer than `timeout_s`.

        Audio still queued inside the pipeline is not yet sent: flush the pipeline first.
        """
        ...

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Tell `observer` of every returned mark made by `mark_frame`, in order."""
        ...

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Tell `observer` of each key that the caller pressed: one of `0123456789*#ABCD`."""
        ...

    def on_stop(self, observer: Callable[[], None]) -> None:
        """Tell `observer` when the carrier announces the end: the call ended or was led elsewhere."""
        ...

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Tell `observer` once when the socket is gone, whoever closed it."""
        ...

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the socket before (or during) the stream; harmless if it is already closed."""
        ...

    async def close(self) -> None:
        """Close the socket normally (1000); harmless if it is already closed."""
        ...
