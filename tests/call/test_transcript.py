"""The transcript of a call: voicebot.call.transcript.transcript."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from db.utterances import UtteranceRecord
from voicebot.call.agents import ActiveAgent
from voicebot.call.transcript.transcript import Transcript


@dataclass(frozen=True)
class Ids:
    """The ids of a call."""

    id: UUID = field(default_factory=uuid4)
    account_id: UUID = field(default_factory=uuid4)
    lead_id: UUID = field(default_factory=uuid4)
    template_id: UUID = field(default_factory=uuid4)
    handovers: int = 0


CALL = Ids()
AGENT = ActiveAgent(template_id=uuid4(), node="start")


@pytest.fixture
def said() -> list[UtteranceRecord]:
    return []


@pytest.fixture
def transcript(said: list[UtteranceRecord]) -> Transcript:
    return Transcript(CALL, said.append)


def test_an_utterance_is_recorded_when_text_and_audio_are_complete(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """An agent's utterance is recorded once, when its text is complete and its last audio went out."""
    transcript.requests.requested("a", "Hello there.")
    transcript.audio_started("a", AGENT, at_ms=100, position=0.0)
    transcript.agent_finished("Hello there.", at_ms=700)
    assert said == []
    transcript.audio_ended(at_ms=900)
    (only,) = said
    assert (only.text, only.heard_text, only.interrupted) == ("Hello there.", "Hello there.", False)
    assert (only.started_ms, only.ended_ms, only.seq, only.source) == (100, 900, 1, "llm")


def test_a_turn_without_words_ends_no_utterance(transcript: Transcript, said: list[UtteranceRecord]) -> None:
    """The end of an answer that failed before its first word is not the end of the text spoken instead."""
    transcript.requests.requested("a", "I'm sorry.", "filler")
    transcript.audio_started("a", AGENT, at_ms=100, position=0.0)
    transcript.agent_finished("", at_ms=101)
    transcript.audio_ended(at_ms=900)
    transcript.agent_finished("I'm sorry.", at_ms=901)
    assert [(one.text, one.heard_text) for one in said] == [("I'm sorry.", "I'm sorry.")]


def test_an_interruption_keeps_only_the_words_that_were_played(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """Of an interrupted utterance the heard text ends with the last word that was played to its end."""
    transcript.requests.requested("a", "One two three four.")
    transcript.audio_started("a", AGENT, at_ms=0, position=1000.0)
    for index, word in enumerate(["One", "two", "three", "four."]):
        transcript.word(word, spaced=False, position=1000.0 + 300 * index)
    (cut,) = transcript.agent_interrupted(heard_until=1700.0, at_ms=800)
    assert (cut.meant, cut.heard) == ("One two three four.", "One two")
    (only,) = said
    assert (only.text, only.heard_text, only.interrupted) == ("One two three four.", "One two", True)


@pytest.mark.parametrize(
    ("timed", "heard"), [(True, "Four five six."), (False, "One two three. Four five six.")]
)
def test_words_without_audio_are_not_heard(
    transcript: Transcript, said: list[UtteranceRecord], timed: bool, heard: str
) -> None:
    """A sentence that takes no time was not spoken, if the TTS says when words are."""
    transcript.requests.requested("a", "One two three. Four five six.")
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    for word, position in (("One two three.", 0.0), ("Four", 0.0), ("five", 300.0), ("six.", 600.0)):
        transcript.word(word, spaced=False, position=position, is_timed=timed)
    transcript.audio_ended(at_ms=900, position=900.0)
    transcript.agent_finished("One two three. Four five six.", at_ms=900)
    transcript.played(900.0)
    assert [it.heard_text for it in said] == [heard]
    swallowed = transcript.take_swallowed()
    assert (swallowed.heard if swallowed else None) == (heard if timed else None)
    assert [it.text for it in transcript.requests.take_unspoken()] == (["One two three."] if timed else [])


async def test_a_text_is_known_again_whatever_spaces_are_around_it(transcript: Transcript) -> None:
    """A service is asked to speak what we expect it to, without the spaces at its ends."""
    transcript.requests.expect("Thank you for calling. ", "filler")
    await transcript.requests.on_request("a", "Thank you for calling.")
    transcript.requests.audio_made("a")
    transcript.requests.synthesised("a")
    assert not transcript.requests.is_waiting_for_tts
    assert transcript.requests.model_characters == 0


def test_text_without_audio_is_not_recorded(transcript: Transcript, said: list[UtteranceRecord]) -> None:
    """Text that was requested but interrupted before its first audio leaves no utterance."""
    transcript.requests.requested("a", "Never heard.")
    assert transcript.agent_interrupted(heard_until=0.0, at_ms=10) == []
    assert said == []


def test_a_new_utterance_ends_the_one_before(transcript: Transcript, said: list[UtteranceRecord]) -> None:
    """When the next utterance starts before the last one's end was reported, both are recorded, in order."""
    transcript.requests.requested("a", "First.")
    transcript.requests.requested("b", "Second.", "filler")
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    transcript.agent_finished("First.", at_ms=10)
    transcript.audio_started("b", AGENT, at_ms=20, position=300.0)
    transcript.audio_ended(at_ms=30)
    transcript.agent_finished("Second.", at_ms=30)
    transcript.played(300.0)
    assert [(u.seq, u.text, u.source) for u in said] == [(1, "First.", "llm"), (2, "Second.", "filler")]


def test_caller_and_agents_are_numbered_together(transcript: Transcript, said: list[UtteranceRecord]) -> None:
    """The turns of caller and agents are numbered in one sequence, each with its call, template and node."""
    transcript.caller_said("billing please", AGENT, started_ms=0, ended_ms=500)
    transcript.caller_said("   ", AGENT, started_ms=600, ended_ms=700)
    transcript.requests.requested("a", "Of course.")
    transcript.audio_started("a", AGENT, at_ms=800, position=0.0)
    transcript.audio_ended(at_ms=900)
    transcript.agent_finished("Of course.", at_ms=910)
    assert [(u.seq, u.speaker, u.node) for u in said] == [(1, "caller", "start"), (2, "agent", "start")]
    assert {(u.call_id, u.account_id) for u in said} == {(CALL.id, CALL.account_id)}


async def test_a_text_of_ours_is_recorded_with_its_source(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """A text that was expected has its own source once; the same text from the model has the model's."""
    transcript.requests.expect("One moment.", "filler")
    for context_id in ("a", "b"):
        await transcript.requests.on_request(context_id, "One moment.")
        transcript.audio_started(context_id, AGENT, at_ms=0, position=0.0)
        transcript.agent_finished("One moment.", at_ms=10)
        transcript.audio_ended(at_ms=20)
    assert [(u.text, u.source) for u in said] == [("One moment.", "filler"), ("One moment.", "llm")]


def test_an_unremembered_text_is_complete_with_its_audio(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """An announcement that is in the context already is complete with its last audio."""
    transcript.requests.requested("a", "One moment please.", "filler", remembered=False)
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    transcript.audio_ended(at_ms=900)
    (only,) = said
    assert (only.text, only.heard_text, only.source) == ("One moment please.",) * 2 + ("filler",)


def test_an_utterance_played_to_its_end_was_heard_whole(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """When all audio of an utterance was heard, its last word counts as heard before it is reported."""
    transcript.requests.requested("a", "What is it about?")
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    transcript.word("What is it", spaced=False, position=300.0)
    transcript.audio_ended(at_ms=900, position=900.0)
    transcript.agent_interrupted(at_ms=1500, heard_until=900.0)

    assert [(it.heard_text, it.interrupted) for it in said] == [("What is it about?", False)]


@pytest.mark.parametrize("interrupted", [False, True])
def test_utterances_are_numbered_in_the_order_in_which_they_began(
    transcript: Transcript, said: list[UtteranceRecord], interrupted: bool
) -> None:
    """What the caller says while an agent speaks comes after the agent's utterance, however that ends."""
    transcript.requests.requested("a", "We are open from eight to five.")
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    transcript.caller_said("mhm", AGENT, started_ms=300, ended_ms=600)
    transcript.caller_said("I see", AGENT, started_ms=700, ended_ms=900)
    assert said == []
    if interrupted:
        transcript.agent_interrupted(heard_until=1000.0, at_ms=1000)
    else:
        transcript.agent_finished("We are open from eight to five.", at_ms=1000)
        transcript.audio_ended(at_ms=2000)
    assert [(row.seq, row.speaker, row.started_ms) for row in said] == [
        (1, "agent", 0), (2, "caller", 300), (3, "caller", 700),
    ]  # fmt: skip


def test_a_caller_who_began_first_is_recorded_at_once(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """A turn that began before the agent's utterance does not wait for its end."""
    transcript.requests.requested("a", "Of course.")
    transcript.audio_started("a", AGENT, at_ms=500, position=0.0)
    transcript.caller_said("billing please", AGENT, started_ms=100, ended_ms=600)
    assert [row.speaker for row in said] == ["caller"]


def test_what_an_interruption_cuts_off_is_kept_for_speaking_it(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """After an interruption the rest of the utterance and what was to follow it are unspoken, in order."""
    transcript.requests.requested("a", "One two three four.", "greeting")
    transcript.requests.requested("b", "Five.", "filler", remembered=False)
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    for index, word in enumerate(["One", "two", "three", "four."]):
        transcript.word(word, spaced=False, position=300.0 * index)
    transcript.requests.interruption_passes()
    transcript.agent_interrupted(heard_until=700.0, at_ms=800)
    assert said[0].heard_text == "One two"
    assert [(it.text, it.source, it.remembered) for it in transcript.requests.take_unspoken()] == [
        ("three four.", "greeting", True), ("Five.", "filler", False),
    ]  # fmt: skip
    assert not transcript.requests.has_unspoken
    assert not transcript.requests.is_synthesising


def test_a_text_that_is_requested_while_an_interruption_is_under_way_is_not_cut(
    transcript: Transcript,
) -> None:
    """Text that the TTS gets after an interruption is spoken, although the transcript learns of it later."""
    transcript.requests.requested("a", "Old.")
    transcript.requests.interruption_passes()
    transcript.requests.requested("b", "New.")
    transcript.agent_interrupted(heard_until=0.0, at_ms=10)
    assert [it.text for it in transcript.requests.take_unspoken()] == ["Old."]
    assert transcript.requests.is_synthesising


def test_the_caller_does_not_interrupt_what_must_be_heard(transcript: Transcript) -> None:
    """A text that is not interruptible is lost with its voice alone."""
    transcript.requests.requested("a", "This call is recorded.", "greeting", interruptible=False)
    transcript.requests.interruption_passes()
    transcript.agent_interrupted(heard_until=0.0, at_ms=10)
    assert transcript.requests.is_protected
    assert not transcript.requests.has_unspoken
    transcript.requests.interruption_passes(lost=True)
    transcript.agent_interrupted(heard_until=0.0, at_ms=20)
    assert [(it.text, it.interruptible) for it in transcript.requests.take_unspoken()] == [
        ("This call is recorded.", False)
    ]


def test_a_context_without_audio_is_not_synthesised(transcript: Transcript) -> None:
    """The words of a context that the TTS ends without audio stay pending."""

    def owed_after(context_id: str, text: str, *, has_audio: bool) -> bool:
        transcript.requests.requested(context_id, text)
        if has_audio:
            transcript.requests.audio_made(context_id)
        transcript.requests.synthesised(context_id)
        return transcript.requests.is_synthesising

    assert not owed_after("a", "Hello.", has_audio=True)
    assert not owed_after("b", " ... ", has_audio=False)
    assert owed_after("c", "Hello.", has_audio=False)


def speak(transcript: Transcript, text: str, *, since: int, until: int) -> None:
    """An agent says something, without pauses."""
    transcript.requests.requested(text, text)
    transcript.audio_started(text, AGENT, at_ms=since, position=float(since))
    transcript.audio_ended(at_ms=until)
    transcript.agent_finished(text, at_ms=until)


def test_what_an_agent_says_in_the_callers_turn_is_recorded_behind_it(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """A caller who began some ms before the agent comes first, although the agent was interrupted before."""
    transcript.caller_began(100)
    transcript.requests.requested("a", "Hello there.")
    transcript.audio_started("a", AGENT, at_ms=105, position=0.0)
    transcript.agent_interrupted(heard_until=0.0, at_ms=110)
    speak(transcript, "Yes.", since=500, until=700)
    assert said == []
    transcript.caller_said("One question.", AGENT, started_ms=100, ended_ms=900)
    assert [(one.speaker, one.text, one.seq) for one in said] == [
        ("caller", "One question.", 1),
        ("agent", "Hello there.", 2),
        ("agent", "Yes.", 3),
    ]


def test_noise_holds_an_agents_words_back_until_it_ends(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """A turn without words is not recorded."""
    transcript.caller_began(100)
    speak(transcript, "Hello there.", since=200, until=900)
    assert said == []
    transcript.caller_ended()
    assert [one.text for one in said] == ["Hello there."]


def test_an_utterance_is_recorded_when_it_was_played(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """What was sent and not played may still be cut off."""
    transcript.requests.requested("a", "Hello there.")
    transcript.audio_started("a", AGENT, at_ms=100, position=0.0)
    transcript.audio_ended(at_ms=900, position=800.0)
    transcript.agent_finished("Hello there.", at_ms=910)
    transcript.played(700.0)
    assert said == []
    assert transcript.unplayed_until == 800.0
    transcript.played(800.0)
    assert [(one.heard_text, one.ended_ms) for one in said] == [("Hello there.", 900)]
    assert transcript.unplayed_until is None


def test_an_interruption_cuts_what_was_sent_and_not_played(
    transcript: Transcript, said: list[UtteranceRecord]
) -> None:
    """Of two utterances at once: the words that were not played are unspoken, and not heard."""
    for context_id, words, position in (("a", ("One", "two."), 0.0), ("b", ("Three", "four."), 600.0)):
        transcript.requests.requested(context_id, " ".join(words))
        transcript.audio_started(context_id, AGENT, at_ms=round(position), position=position)
        for index, word in enumerate(words):
            transcript.word(word, spaced=False, position=position + 300.0 * index)
        transcript.audio_ended(at_ms=round(position) + 600, position=position + 600.0)
        transcript.agent_finished(" ".join(words), at_ms=round(position) + 600)
    cuts = transcript.agent_interrupted(heard_until=400.0, at_ms=1200)
    assert [(cut.meant, cut.heard, cut.memory) for cut in cuts] == [
        ("One two.", "One", "already"),
        ("Three four.", "", "already"),
    ]
    assert [(one.seq, one.heard_text, one.interrupted) for one in said] == [(1, "One", True), (2, "", True)]
    assert [it.text for it in transcript.requests.take_unspoken()] == ["two.", "Three four."]


@pytest.mark.parametrize(
    ("last", "lasts_ms", "heard"),
    [("three", 400.0, "One two three"), ("thr", 300.0, "One two"), ("three", 150.0, "One two")],
)
def test_the_last_word_before_a_pause_was_heard_if_it_is_a_whole_one(
    transcript: Transcript, said: list[UtteranceRecord], last: str, lasts_ms: float, heard: str
) -> None:
    """A voice that has fallen silent may have stopped within a word, even if it has reported a whole one."""
    transcript.requests.requested("a", "One two three four.")
    transcript.audio_started("a", AGENT, at_ms=0, position=0.0)
    for index, word in enumerate(("One", "two", last)):
        transcript.word(word, spaced=False, position=300.0 * index)
    transcript.voice_paused(600.0 + lasts_ms)
    transcript.agent_interrupted(heard_until=600.0 + lasts_ms, at_ms=2000, lost=True)
    assert [one.heard_text for one in said] == [heard]
