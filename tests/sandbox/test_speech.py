"""Speech of the sandbox, measured."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voicebot.sandbox.speech.synthesis import SAMPLE_RATE, pronounce, synthesize, voice_of

SENTENCE = "Hello, I would like to talk about my last bill, please."


def _samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2").astype(float)


def _envelope(pcm: bytes) -> np.ndarray:
    """Mean spectrum in 32 bands, of unit length, by which voices are distinguished."""
    samples = _samples(pcm)
    frames = samples[: len(samples) // 256 * 256].reshape(-1, 256) * np.hanning(256)
    bands = np.log1p(np.abs(np.fft.rfft(frames))[:, :128].reshape(len(frames), 32, 4).mean(axis=2)).mean(
        axis=0
    )
    centred = bands - bands.mean()
    timbre: np.ndarray = centred / np.linalg.norm(centred)
    return timbre


def test_a_sentence_lasts_as_long_as_a_person_would_take() -> None:
    """Eleven words take between two and seven seconds at 8,000 Hz."""
    assert 2.0 < len(synthesize(SENTENCE, "anna")) / 2 / SAMPLE_RATE < 7.0


def test_speech_begins_and_ends_with_sound() -> None:
    """Neither end keeps more than 40 ms of silence."""
    samples = np.abs(_samples(synthesize(SENTENCE, "anna")))
    edge = SAMPLE_RATE * 40 // 1000
    assert samples[:edge].max() > 100
    assert samples[-edge:].max() > 100


def test_the_same_voice_says_the_same_thing_the_same_way() -> None:
    """The same text and voice id give the same bytes, from many threads at once."""
    texts = [f"Number {n}, please." for n in range(12)] * 3
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda text: synthesize(text, "anna"), texts))
    assert at_once == [synthesize(text, "anna") for text in texts]
    assert len(set(at_once)) == 12


def test_voices_differ_measurably() -> None:
    """No two of ten voice ids share a spectrum, though they say the same."""
    envelopes = [_envelope(synthesize(SENTENCE, f"voice-{n}")) for n in range(10)]
    distances = [
        float(np.linalg.norm(one - other))
        for index, one in enumerate(envelopes)
        for other in envelopes[index + 1 :]
    ]
    assert min(distances) > 0.02


def test_voices_are_equally_loud() -> None:
    """Every voice peaks at the same level and none is clipped."""
    peaks = [np.abs(_samples(synthesize(SENTENCE, f"voice-{n}"))).max() for n in range(10)]
    assert max(peaks) - min(peaks) <= 1
    assert max(peaks) < 32767


def test_nothing_to_say_is_silence() -> None:
    """Text without a word gives no audio."""
    assert synthesize("", "anna") == synthesize(" \n", "anna") == b""


@given(st.text(max_size=40))
def test_any_text_is_safe_to_say(text: str) -> None:
    """Any text is synthesised to whole 16-bit samples."""
    assert len(synthesize(text, "anna")) % 2 == 0


@given(st.text(min_size=1))
def test_every_id_is_a_voice(voice_id: str) -> None:
    """Any id gives a voice whose figures espeak-ng accepts."""
    voice = voice_of(voice_id)
    assert 0 <= voice.pitch <= 100
    assert 0 <= voice.range <= 100
    assert 0.85 < voice.tract < 1.15


def test_pronunciation_spells_numbers_out() -> None:
    """A figure is pronounced as the words it is said in."""
    assert pronounce("42") == pronounce("forty two")
    assert pronounce("cat") == "kˈæt"


@given(st.text(max_size=40))
def test_any_text_has_a_pronunciation(text: str) -> None:
    """No text keeps the pronouncer from coming to an end."""
    said = pronounce(text)
    assert said == said.strip()


def test_text_cannot_command_the_engine() -> None:
    """Control characters, which are commands of espeak-ng for pitch and pace, do not change the voice."""
    commanded = _samples(synthesize("\x0140S hello there, my friend.", "anna")).size
    said = _samples(synthesize("40S hello there, my friend.", "anna")).size
    assert abs(commanded - said) < 0.1 * said
