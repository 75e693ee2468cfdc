"""Measurements of speech: where there is sound, and fingerprints that distinguish voices.

All functions take mono 16-bit samples at 8,000 Hz, as received from a telephone line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voicebot.sandbox.audio.mulaw import Samples

RATE = 8000
TICK = 160
"""Samples in 20 ms."""
LOUD = 120.0
"""The root mean square (of 32,768) from which 20 ms count as sound; about -49 dB of full scale."""
FAINT = 8.0
"""The root mean square from which 20 ms next to sound belong to it: the breath of an F or a TH."""
AUDIBLE = 16
"""The magnitude (of 32,768) from which one sample counts as sound: two steps of µ-law above silence."""
STRANGE = 10.0
"""The distance between two fingerprints from which they are two voices.

Of espeak-ng's random voices (50 by 8 sentences) no equal pair lies beyond it, but 14 % of the unequal ones
within: who needs certainty chooses voices half an octave apart.
"""

_Floats = NDArray[np.float64]

_WINDOW = 480
_SHORTEST_LAG, _LONGEST_LAG = 18, 134  # 444 Hz to 60 Hz
_OCTAVE = 0.9
_VOICED = 0.6
_BANDS = 8
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 3800.0
_FILTERS = 20
_FFT = 512
_PITCH_WEIGHT = 35.0
_BAND_WEIGHT = 2.4
_LEAST_FRAMES = 8


class TooShort(ValueError):
    """There is too little voiced sound for a fingerprint; more of it may be enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a track, in samples: `start` sounds, `end` does not."""

    start: int
    end: int

    @property
    def start_ms(self) -> float:
        """Where it begins, in ms."""
        return self.start / 8

    @property
    def end_ms(self) -> float:
        """Where it ends, in ms."""
        return self.end / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What distinguishes a voice: how low it speaks, and the shape of its long-term spectrum."""

    pitch_hz: float
    """The lower quartile of the pitch: melody moves the upper ones more."""
    bands: _Floats
    """Mean level of eight bands (natural logarithm), relative to the whole."""


def loudness(samples: Samples, size: int = TICK) -> _Floats:
    """Return the root mean square of every whole part of `size` samples."""
    count = len(samples) // size
    parts = samples[: count * size].reshape(count, size).astype(np.float64)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", parts, parts) / size))


def spans(samples: Samples, *, pause_ms: float, least_ms: float = 40.0) -> tuple[Span, ...]:
    """Find where there is sound; bridge pauses up to `pause_ms`, ignore sounds under `least_ms`.

    The ends are exact to the sample: the first and the last audible one, however faint.
    """
    levels = loudness(samples)
    loud = np.flatnonzero(levels >= LOUD)
    if not len(loud):
        return ()
    breaks = np.flatnonzero(np.diff(loud) * 20 > pause_ms)
    firsts = loud[np.concatenate([[0], breaks + 1])]
    lasts = loud[np.concatenate([breaks, [len(loud) - 1]])]
    faint = levels >= FAINT
    found = [
        _exact(samples, _reach(faint, int(first), -1) * TICK, (_reach(faint, int(last), 1) + 1) * TICK)
        for first, last in zip(firsts, lasts, strict=True)
    ]
    return tuple(span for span in found if span.end - span.start >= least_ms * 8)


def _reach(faint: NDArray[np.bool_], tick: int, step: int) -> int:
    """Go on over faint ticks, up to 200 ms, and return the last one."""
    for _ in range(10):
        if not (0 <= tick + step < len(faint) and faint[tick + step]):
            break
        tick += step
    return tick


def _exact(samples: Samples, start: int, end: int) -> Span:
    """Widen a span of ticks by up to a tick on each side, then narrow it to its audible samples."""
    start, end = max(0, start - TICK), min(len(samples), end + TICK)
    audible = np.flatnonzero(np.abs(samples[start:end].astype(np.int32)) >= AUDIBLE)
    return Span(start=start + int(audible[0]), end=start + int(audible[-1]) + 1)


def pitch_track(samples: Samples) -> tuple[_Floats, _Floats]:
    """Return pitch (Hz) and periodicity (0 to 1) every 20 ms, by autocorrelation over 60 ms."""
    frames = _frames(samples, _WINDOW, 0)
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(frames, 1024, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)[:, :_WINDOW]
    correlation /= (correlation[:, :1] + 1e-9) * (np.arange(_WINDOW, 0, -1) / _WINDOW)
    low, high = _SHORTEST_LAG, _LONGEST_LAG
    middle = correlation[:, low:high]
    peaks = (middle > correlation[:, low - 1 : high - 1]) & (middle >= correlation[:, low + 1 : high + 1])
    best = np.where(peaks, middle, -1.0).max(axis=1, keepdims=True)
    # The shortest lag that is nearly as good as the best one: the best may be two periods.
    lag = (peaks & (middle >= _OCTAVE * best)).argmax(axis=1) + low
    rows = np.arange(len(frames))
    before, at, after = (correlation[rows, lag + offset] for offset in (-1, 0, 1))
    shift = np.clip((before - after) / (2 * (before - 2 * at + after) - 1e-12), -0.5, 0.5)
    return RATE / (lag + shift), at


class VoiceTrack:
    """Measurements of a stretch of sound, a row every 20 ms, of which any part can be fingerprinted."""

    def __init__(self, samples: Samples) -> None:
        padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
        self.pitch_hz, self._periodicity = pitch_track(padded)
        self._level, self._bands = _spectra(padded)
        self.voiced: NDArray[np.bool_] = (self._periodicity > _VOICED) & (self._level >= LOUD)
        """Which rows have a pitch worth looking at."""

    def __len__(self) -> int:
        return len(self.pitch_hz)

    def fingerprint(self, first: int = 0, last: int | None = None) -> Fingerprint:
        """Measure the voice of rows `first` to `last`.

        Raises:
            TooShort: under 160 ms of voiced sound.
        """
        part = slice(first, last)
        level = self._level[part]
        voiced = self.voiced[part] & (level > 0.15 * level.max(initial=0.0))
        if voiced.sum() < _LEAST_FRAMES:
            raise TooShort(f"{voiced.sum() * 20} ms of voiced sound")
        return Fingerprint(
            pitch_hz=float(np.percentile(self.pitch_hz[part][voiced], 25)),
            bands=self._bands[part][voiced].mean(axis=0)[:_BANDS],
        )


def fingerprint(samples: Samples) -> Fingerprint:
    """Return the fingerprint of a voice. It needs a second of speech; less is less certain.

    Raises:
        TooShort: under 160 ms of voiced sound.
    """
    return VoiceTrack(samples).fingerprint()


def distance(one: Fingerprint, other: Fingerprint) -> float:
    """Return the distance of two voices; from `STRANGE` on they count as different.

    The weights are those at which espeak-ng's voices, 40 by 8 sentences, fell apart best.
    """
    pitch = _PITCH_WEIGHT * np.log2(one.pitch_hz / other.pitch_hz)
    bands = _BAND_WEIGHT * (one.bands - other.bands)
    return float(np.sqrt(pitch**2 + (bands**2).sum()))


def _frames(samples: Samples, width: int, offset: int) -> _Floats:
    count = (len(samples) - _WINDOW) // TICK + 1
    every = np.lib.stride_tricks.sliding_window_view(samples, width)[offset::TICK]
    return np.asarray(every[:count].astype(np.float64))


def _spectra(samples: Samples) -> tuple[_Floats, _Floats]:
    """Return level and band levels of the 32 ms in the middle of every pitch frame."""
    width = 256
    frames = _frames(samples, width, (_WINDOW - width) // 2)
    power = np.abs(np.fft.rfft(frames * np.hanning(width), _FFT, axis=1)) ** 2
    levels = np.log(power @ _filterbank().T + 1e-3)
    return frames.std(axis=1), levels - levels.mean(axis=1, keepdims=True)


def _filterbank() -> _Floats:
    mel = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), _FILTERS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.fft.rfftfreq(_FFT, 1 / RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.asarray(
        np.clip(np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)), 0, None)
    )


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
