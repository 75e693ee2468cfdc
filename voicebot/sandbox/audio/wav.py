"""A call as a stereo WAV: left what the caller sent, right what the carrier received and played out.

16-bit little-endian PCM at 8,000 Hz; sample 0 is the answer. `analysis.analyse` reads it by machine.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.carrier.model import Recording

_RATE = 8000


class NotACall(ValueError):
    """The file is not a recording of a call as `write` makes it; trying again does not help."""


def write(path: Path | str, recording: Recording) -> Path:
    """Write both sides, the shorter one filled up with silence, and return the path."""
    length = max(len(recording.sent), len(recording.received))
    stereo = np.zeros((length, 2), dtype="<i2")
    stereo[: len(recording.sent), 0] = recording.sent
    stereo[: len(recording.received), 1] = recording.received
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(stereo.tobytes())
    return path


def read(path: Path | str) -> Recording:
    """Read what `write` wrote.

    Raises:
        NotACall: not a stereo 16-bit WAV at 8,000 Hz.
        OSError: the file cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise NotACall(f"{path}: {error}") from error
    if shape != (2, 2, _RATE):
        raise NotACall(f"{path}: {shape[0]} channels of {shape[1] * 8} bits at {shape[2]} Hz")
    stereo = samples_of(frames).reshape(-1, 2)
    return Recording(sent=stereo[:, 0].copy(), received=stereo[:, 1].copy())
