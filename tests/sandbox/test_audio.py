"""A call as a stereo file, and what a machine reads from it."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from tests.sandbox.voice_ids import two_voices
from voicebot.sandbox.audio.analysis import analyse, locate, locate_roughly
from voicebot.sandbox.audio.measurement import TooShort, distance, fingerprint, spans
from voicebot.sandbox.audio.mulaw import Samples, samples_of, through_the_line
from voicebot.sandbox.audio.wav import NotACall, read, write
from voicebot.sandbox.carrier import Recording
from voicebot.sandbox.speech.synthesis import synthesize

LOW, HIGH = two_voices()
CALLER = "somebody"
GREETING = "Thanks for calling Harbor Clinic. How can I help you today?"
FAREWELL = "One moment, I will put you through to billing."
BILLING = "You are talking to billing now. Your last invoice was forty two dollars."


def speech(text: str, voice_id: str) -> Samples:
    return through_the_line(samples_of(synthesize(text, voice_id)))


def silence(ms: float) -> Samples:
    return np.zeros(round(ms * 8), np.int16)


def laid(*pieces: tuple[float, Samples], length_ms: float = 20_000) -> Samples:
    """Lay pieces at their times (ms) onto silence; where they overlap they are mixed."""
    track = np.zeros(round(length_ms * 8), np.int32)
    for at_ms, samples in pieces:
        start = round(at_ms * 8)
        track[start : start + len(samples)] += samples
    return np.clip(track, -32768, 32767).astype(np.int16)


def call(received: Samples, sent: Samples | None = None) -> Recording:
    return Recording(received=received, sent=np.zeros_like(received) if sent is None else sent)


def ms(samples: Samples) -> float:
    return len(samples) / 8


def test_recording_survives_the_file(tmp_path: Path) -> None:
    """A written recording is read back to the sample, both sides on their channels."""
    recording = call(laid((100, speech(GREETING, LOW))), laid((5000, speech("Hello.", CALLER))))
    again = read(write(tmp_path / "calls" / "a.wav", recording))
    assert np.array_equal(again.sent, recording.sent)
    assert np.array_equal(again.received, recording.received)
    with wave.open(str(tmp_path / "calls" / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is not a stereo recording of a call is refused, with its format in the error."""
    with wave.open(str(tmp_path / "mono.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0")
    with pytest.raises(NotACall, match="1 channels of 16 bits at 16000 Hz"):
        read(tmp_path / "mono.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(NotACall):
        read(tmp_path / "text.wav")


@pytest.mark.parametrize("at_ms", [0.0, 13.375, 999.875])
def test_onset_and_end_are_exact_to_a_few_samples(at_ms: float) -> None:
    """Where a sound begins and ends is found to within a millisecond, wherever it lies between frames."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(2400) / 8000)).astype(np.int16)
    (span,) = spans(laid((at_ms, tone)), pause_ms=400)
    assert abs(span.start_ms - at_ms) <= 1
    assert abs(span.end_ms - (at_ms + 300)) <= 1


def test_pauses_within_an_utterance_are_bridged() -> None:
    """A pause shorter than the bound belongs to the utterance, a longer one ends it."""
    tone = np.full(1600, 5000, np.int16)
    track = laid((0, tone), (500, tone), (1200, tone))
    assert [(round(s.start_ms), round(s.end_ms)) for s in spans(track, pause_ms=400)] == [
        (0, 700),
        (1200, 1400),
    ]


def test_routed_call_is_read_from_its_sound_alone() -> None:
    """Who spoke when, in which voice, how long the caller waited, and the silence between two agents."""
    greeting, farewell, billing = speech(GREETING, LOW), speech(FAREWELL, LOW), speech(BILLING, HIGH)
    wish, thanks = speech("My bill is wrong.", CALLER), speech("Thanks, goodbye.", CALLER)
    back = speech("You are welcome, goodbye.", HIGH)
    wish_at = 200 + ms(greeting) + 800
    farewell_at = wish_at + ms(wish) + 350
    billing_at = farewell_at + ms(farewell) + 120
    thanks_at = billing_at + ms(billing) + 900
    back_at = thanks_at + ms(thanks) + 500
    seen = analyse(
        call(
            laid(
                (200, greeting),
                (farewell_at, farewell),
                (billing_at, billing),
                (back_at, back),
                length_ms=25_000,
            ),
            laid((wish_at, wish), (thanks_at, thanks), length_ms=25_000),
        )
    )
    assert [part.voice for part in seen.agent] == ["A", "A", "B", "B"]
    assert [part.start_ms for part in seen.agent] == pytest.approx(
        [200, farewell_at, billing_at, back_at], abs=80
    )
    assert seen.voices == ("A", "B")
    assert [gap.ms for gap in seen.gaps] == pytest.approx([350, 500], abs=25)
    assert [(gap.previous_voice, gap.voice) for gap in seen.gaps] == [("A", "A"), ("B", "B")]
    (switch,) = seen.switches
    assert (switch.before, switch.after) == ("A", "B")
    assert switch.gap_ms == pytest.approx(120, abs=25)
    assert seen.overlaps == ()
    assert seen.repeats == ()
    assert seen.as_json()["gaps"]


def test_analysis_reads_a_file(tmp_path: Path) -> None:
    """The path of a recording is as good as the recording."""
    recording = call(laid((200, speech(GREETING, LOW))))
    assert analyse(write(tmp_path / "a.wav", recording)) == analyse(recording)


@pytest.mark.parametrize("piece_ms", [100, 200])
def test_voices_cut_into_each_other_are_an_overlap(piece_ms: int) -> None:
    """Farewell and greeting interleaved piece by piece are found where they are, and nowhere else."""
    one, two = speech(FAREWELL, LOW), speech(BILLING, HIGH)
    step = piece_ms * 8
    count = min(len(one), len(two)) // step
    mixed = np.concatenate([part[i * step : (i + 1) * step] for i in range(count) for part in (one, two)])
    clean_end = 200 + ms(speech(GREETING, LOW))
    track = laid(
        (200, speech(GREETING, LOW)), (7000, mixed), (7000 + ms(mixed) + 2000, two), length_ms=25_000
    )
    overlaps = analyse(call(track)).overlaps
    assert overlaps
    assert all(7000 <= overlap.start_ms <= overlap.end_ms <= 7000 + ms(mixed) for overlap in overlaps)
    assert clean_end < 7000


def test_mixed_voices_are_found_by_what_they_say() -> None:
    """Two known utterances mixed into each other are both located, and their ranges overlap."""
    one, two = speech(FAREWELL, LOW), speech(BILLING, HIGH)
    track = laid((1000, one), (2000, two))
    (first,), (second,) = locate(track, one, likeness=0.4), locate(track, two, likeness=0.4)
    assert (first.start_ms, second.start_ms) == (1000, 2000)
    assert second.start < first.end


def test_known_utterance_with_a_gap_is_located_roughly() -> None:
    """An utterance that a slow line has cut in two is found, and one that is not there is not."""
    words, other = speech(FAREWELL, LOW), speech(BILLING, HIGH)
    middle = len(words) // 2
    track = np.concatenate([silence(1000), words[:middle], silence(60), words[middle:], silence(500)])
    assert locate_roughly(track, words) is not None
    assert abs((locate_roughly(track, words) or 0) - 8000) < 800
    assert locate_roughly(track, other) is None
    assert locate_roughly(silence(2000), words) is None


def test_known_utterance_is_located_to_the_sample() -> None:
    """An utterance whose sound is known is found exactly, as often as it sounds, and nowhere else."""
    one, two = speech(FAREWELL, LOW), speech(BILLING, LOW)
    track = laid((1000.125, one), (9000.5, one))
    assert sorted(found.start for found in locate(track, one)) == [8001, 72004]
    assert locate(track, two) == ()


def test_utterance_heard_twice_is_a_repeat() -> None:
    """The same words twice are a repeat; it says whether the caller spoke in between."""
    greeting = speech(GREETING, LOW)
    received = laid((200, greeting), (6000, greeting), (13_000, greeting), length_ms=18_000)
    sent = laid((11_000, speech("Hello?", CALLER)), length_ms=18_000)
    repeats = analyse(call(received, sent)).repeats
    assert [(round(r.first_ms, -2), round(r.second_ms, -2), r.caller_between) for r in repeats] == [
        (200, 6000, False),
        (200, 13_000, True),
        (6000, 13_000, True),
    ]


def test_one_voice_saying_much_stays_one_voice() -> None:
    """Questions, statements and short answers of one voice are one voice."""
    texts = [
        GREETING,
        "Yes, sure.",
        BILLING,
        "What else can I do for you?",
        "I am sorry, I did not understand that.",
        FAREWELL,
    ]
    for voice_id in (LOW, HIGH):
        at, pieces = 0.0, []
        for text in texts:
            pieces.append((at, speech(text, voice_id)))
            at += ms(pieces[-1][1]) + 700
        seen = analyse(call(laid(*pieces, length_ms=at)))
        assert seen.voices == ("A",)
        assert seen.switches == ()


def test_voices_far_apart_have_fingerprints_far_apart() -> None:
    """The distance between two voices is greater than between two sentences of one."""
    low, low_again, high = (
        fingerprint(speech(t, v)) for t, v in ((GREETING, LOW), (BILLING, LOW), (BILLING, HIGH))
    )
    assert distance(low, high) > 2 * distance(low, low_again)


def test_too_little_sound_has_no_fingerprint() -> None:
    """Silence and a click have no voice."""
    for samples in (silence(0), silence(500), np.full(80, 9000, np.int16)):
        with pytest.raises(TooShort):
            fingerprint(samples)


def test_silent_call_is_read_as_silent() -> None:
    """A silent call has no speech, gaps or overlaps."""
    seen = analyse(call(silence(3000)))
    assert (seen.duration_ms, seen.caller, seen.agent, seen.gaps, seen.overlaps) == (3000, (), (), (), ())
