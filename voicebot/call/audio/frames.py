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
    """Passes through the pipeline after all speech that was queued before it.

    ``synthesised`` is set when the TTS has made the last audio before it, ``sent`` when that audio was sent
    to the carrier and its text is in the context. It takes one pass through the stages after the model;
    pipecat's ``flush_pipeline`` takes three passes through the whole pipeline.
    """

    interruptible: bool = field(default=False, init=False)
    synthesised: asyncio.Event = field(default_factory=asyncio.Event)
    sent: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class SpeechLostFrame(DropSpeechFrame):
    """An interruption because the TTS failed: the audio that it made is dropped and will be spoken again.

    ``noted`` is set when the transcript has recorded how much the caller heard.
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
