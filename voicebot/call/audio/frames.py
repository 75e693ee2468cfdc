"""Control frames of our own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

from pipecat.frames.frames import ControlFrame, Frame

from telephony.output import DropSpeechFrame

FrameT = TypeVar("FrameT", bound=Frame)


@dataclass
class DrainFrame(ControlFrame):
    """Follows all speech through the pipeline.

    ``synthesised`` is set when the TTS has made the last audio before it, ``sent`` when that audio was handed
    to the carrier and its text is in the context. One pass through the half of the pipeline behind the model;
    pipecat's ``flush_pipeline`` takes three passes through the whole.
    """

    interruptible: bool = field(default=False, init=False)
    synthesised: asyncio.Event = field(default_factory=asyncio.Event)
    sent: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class SpeechLostFrame(DropSpeechFrame):
    """An interruption by us, because the TTS failed: what it has made is dropped and will be spoken again.

    ``noted`` is set when the transcript knows how much the caller has heard.
    """

    noted: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class OpenGateFrame(ControlFrame):
    """Opens the gate of the :class:`LlmSwitch` at this place in the order of frames."""

    interruptible: bool = field(default=False, init=False)


def uninterruptible(frame: FrameT) -> FrameT:
    """The same frame, marked so that a barge-in does not drop it."""
    frame.interruptible = False
    return frame
