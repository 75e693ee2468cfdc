"""Voice activity by the Silero model, which all calls of a process share.

pipecat's ``SileroVADAnalyzer`` loads a model of 10 MB for each call, and hands each frame to a thread. Here
one model serves all calls on the event loop: a window of 32 ms takes about 0.2 ms. Thresholds, smoothing and
the resets of the model are pipecat's. Windows that are too quiet to count as speech, whatever the model says,
are kept, and the model gets the latest of them when speech may begin.
"""

from __future__ import annotations

import math
from collections import deque
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pipecat.audio.utils import exp_smoothing
from pipecat.audio.vad.silero import SileroOnnxModel
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.audio.volume import VOLUME_WINDOW_SECS, AudioVolumeTracker

from voicebot.providers.pcm import Resampler
from voicebot.providers.service_spec import SAMPLE_RATE

WINDOW_S = 0.032
MODEL_RATES = (8000, 16_000)
"""The sample rates, in Hz, that the model takes; audio at another one is converted to the highest of them."""

_CONTEXT_S = 0.004
_SMOOTHING = 0.2
_RESET_WINDOWS = round(2.0 / WINDOW_S)
_RESET_CONFIDENCE = 0.1
_RESET_QUIET_WINDOWS = 5
_VOLUME_WINDOWS = math.ceil(VOLUME_WINDOW_SECS / WINDOW_S)
_QUIET_KEPT = 16
"""Quiet windows (0.5 s) that the model gets before one that may be speech. The smoothed volume is high enough
0.2 to 0.4 s after speech has begun, so that these include its beginning."""

Floats = NDArray[np.float32]


@cache
def load_model() -> Any:
    """The model's session; loading it blocks for tens of ms, once in a process."""
    path = files("pipecat.audio.vad.data").joinpath("silero_vad.onnx")
    return SileroOnnxModel(str(path)).session


class VoiceActivity:
    """Detects when the caller of one call starts and stops speaking."""

    def __init__(self, stop_s: float) -> None:
        """Loads the model, if no call has yet.

        Args:
            stop_s: the silence after which speech has ended, in seconds.
        """
        self.params = VADParams(stop_secs=stop_s)
        self.is_speaking = False
        self._model = load_model()
        self._start_windows = round(self.params.start_secs / WINDOW_S)
        self._stop_windows = round(stop_s / WINDOW_S)
        self._count = 0
        """Windows in a row that contradict ``is_speaking``."""
        self._volume = AudioVolumeTracker()
        self._smoothed_volume = 0.0
        self._zero_windows = 0
        self._quiet: deque[bytes] = deque(maxlen=_QUIET_KEPT)
        """The windows that the model has not got, or the latest of them."""
        self._windows_since_reset = self._quiet_windows = 0
        self.set_sample_rate(SAMPLE_RATE)

    def set_sample_rate(self, sample_rate: int) -> None:
        """Begin again with audio at another rate, in Hz; until this is called it is 8,000 Hz."""
        self._rate = sample_rate if sample_rate in MODEL_RATES else MODEL_RATES[-1]
        self._to_model = Resampler(sample_rate, self._rate)
        self._window_bytes = round(WINDOW_S * self._rate) * 2
        self._zeros = bytes(self._window_bytes)
        self._context_samples = round(_CONTEXT_S * self._rate)
        self._audio = b""
        self._state, self._context = _silence(self._context_samples)

    def hear(self, audio: bytes) -> bool | None:
        """Take 16-bit mono PCM.

        Returns:
            True when speech has begun, False when it has ended, None when nothing changed.
        """
        self._audio += self._to_model.process(audio)
        size, before = self._window_bytes, self.is_speaking
        while len(self._audio) >= size:
            window, self._audio = self._audio[:size], self._audio[size:]
            self._decide(self._is_voiced(window))
        return None if self.is_speaking is before else self.is_speaking

    def stop(self) -> None:
        """Count the caller as silent: no audio arrives any more."""
        self.is_speaking, self._count = False, 0

    def _decide(self, is_voiced: bool) -> None:
        if is_voiced is self.is_speaking:
            self._count = 0
            return
        self._count += 1
        if self._count >= (self._stop_windows if self.is_speaking else self._start_windows):
            self.is_speaking, self._count = is_voiced, 0

    def _is_voiced(self, window: bytes) -> bool:
        self._smoothed_volume = exp_smoothing(self._measure(window), self._smoothed_volume, _SMOOTHING)
        if self._smoothed_volume < self.params.min_volume:
            if len(self._quiet) == _QUIET_KEPT:
                self._reset()
            self._quiet.append(window)
            return False
        while self._quiet:
            self._confidence(self._quiet.popleft())
        return self._confidence(window) >= self.params.confidence

    def _measure(self, window: bytes) -> float:
        """The volume of the last 0.4 s; that of digital silence is known."""
        self._zero_windows = self._zero_windows + 1 if window == self._zeros else 0
        if self._zero_windows > _VOLUME_WINDOWS:
            return 0.0
        self._volume.update(window, self._rate)
        return self._volume.volume

    def _confidence(self, window: bytes) -> float:
        samples = np.frombuffer(window, np.int16).astype(np.float32) / 32768
        heard: Floats = np.concatenate((self._context, samples[np.newaxis]), axis=1)
        rate = np.array(self._rate, dtype=np.int64)
        scores, self._state = self._model.run(None, {"input": heard, "state": self._state, "sr": rate})
        self._context = heard[:, -self._context_samples :]
        confidence = float(scores[0, 0])
        self._reset_if_due(confidence)
        return confidence

    def _reset_if_due(self, confidence: float) -> None:
        """Every 2 s in silence: after long silence or music, the model does not detect speech otherwise."""
        self._windows_since_reset += 1
        self._quiet_windows = self._quiet_windows + 1 if confidence < _RESET_CONFIDENCE else 0
        is_quiet = not self.is_speaking and self._count == 0
        if (
            is_quiet
            and self._windows_since_reset >= _RESET_WINDOWS
            and self._quiet_windows >= _RESET_QUIET_WINDOWS
        ):
            self._reset()

    def _reset(self) -> None:
        self._windows_since_reset = 0
        self._state, self._context = _silence(self._context_samples)


def _silence(context_samples: int) -> tuple[Floats, Floats]:
    """The state of the model, and the samples before the first window, at the beginning."""
    return np.zeros((2, 1, 128), np.float32), np.zeros((1, context_samples), np.float32)
