"""Scripted conversations: what is expected is held against what happened, and told to the author."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from rich.text import Text

from tests.simulate.harness import BILLING, DESK, Opinion, harness
from tests.templates.flow_harness import Call, Say
from voicebot.authoring.files import BadFiles
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.report import as_json, report
from voicebot.simulate.runner import Played, play
from voicebot.simulate.script import BadFile, Script, load

ROUTE: Call = ("route_to_agent", {"agent": "billing", "reason": "a bill"})
FIND: Call = ("find_invoice", {"number": "12"})
PAID: Call = ("record_outcome", {"outcome": "paid"})
ANSWERS = {"find_invoice": [{"when": {"number": "12"}, "body": {"status": "open", "amount": 7}}]}


@pytest.fixture(autouse=True)
def quiet_engine() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


@pytest.fixture
def library(tmp_path: Path) -> FileLibrary:
    (tmp_path / "desk.yaml").write_text(DESK)
    (tmp_path / "billing.yaml").write_text(BILLING)
    return FileLibrary([tmp_path])


def script(*turns: dict[str, Any], **more: Any) -> Script:
    conversation = {"name": "A conversation", "turns": list(turns), **more}
    return Script.model_validate({"begin": "Front desk", "answers": ANSWERS, "conversations": [conversation]})


def told(played: list[Played], **options: bool) -> str:
    return "\n".join(Text.from_markup(line).plain for line in report(played, **options))


async def one(
    library: FileLibrary, script: Script, *turns: Say | Call, opinion: Opinion | None = None
) -> Played:
    [played] = await play(script, harness(library, *turns, opinion=opinion))
    return played


async def test_a_conversation_that_is_as_expected(library: FileLibrary) -> None:
    """Route, agent, node, functions and arguments, words, outcome and end are met, and nothing is told."""
    expected = script(
        {"expect": {"says": "ACME hello, Ada", "never_says": "stranger"}},
        {"caller": "My bill", "expect": {"route": "billing", "agent": "Billing", "node": "ask",
                                         "says": ["one moment", "billing hello"], "functions": []}},
        {"caller": "Twelve", "expect": {"functions": [{"find_invoice": {"number": 12}}, "record_outcome"],
                                        "node": "tell", "outcome": "paid", "route": None, "ended": False}},
        {"caller": "Bye", "expect": {"functions": ["end_call"], "ended": True}},
        payload={"caller": "Ada"},
    )  # fmt: skip
    model: list[Say | Call] = [ROUTE, FIND, PAID, "It is seven.", ("end_call", {"reason": "done"})]
    played = await one(library, expected, *model)
    assert played.passed, told([played])
    assert told([played]).endswith("1 conversation, all as expected")


@pytest.mark.parametrize(
    ("expect", "expected", "got"),
    [
        ({"says": "seventy"}, "the words 'seventy'", "“It is seven.”"),
        ({"says": "seve"}, "the words 'seve'", "“It is seven.”"),
        ({"never_says": "it is"}, "never the words 'it is'", "“It is seven.”"),
        ({"route": "billing"}, "the route billing", "no route was asked for"),
        ({"agent": "Billing"}, "the agent Billing", "Front desk"),
        ({"node": "tell"}, "the node tell", "prompt"),
        ({"outcome": "paid"}, "the outcome paid", "none was recorded"),
        ({"ended": True}, "the end of the call", "it goes on"),
        ({"functions": ["find_invoice"]}, "the function find_invoice()", "no function was called"),
    ],
)
async def test_what_was_not_as_expected_is_told(
    library: FileLibrary, expect: dict[str, Any], expected: str, got: str
) -> None:
    """Each miss names what was expected and what happened instead."""
    played = await one(library, script({"caller": "How much?", "expect": expect}), "It is seven.")
    [miss] = played.turns[0].misses
    assert (miss.expected, miss.got) == (expected, got)
    assert not played.passed


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ([], "no function"),
        ([{"find_invoice": {"number": "13"}}], 'find_invoice("number": "13")'),
        ([{"find_invoice": {"day": "today"}}], 'find_invoice("day": "today")'),
        (["record_outcome", "find_invoice"], "find_invoice()"),
    ],
)
async def test_functions_that_were_not_as_expected_are_told(
    library: FileLibrary, functions: list[Any], expected: str
) -> None:
    """Other arguments, another order, and calls where none should be are misses that show the calls made."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"functions": functions}})
    played = await one(library, asked, ROUTE, FIND, PAID, "It is seven.")
    [miss] = played.turns[1].misses
    assert expected in miss.expected
    assert 'find_invoice("number": "12"), record_outcome("outcome": "paid")' in miss.got


async def test_a_route_that_should_not_be_is_told(library: FileLibrary) -> None:
    """``route: null`` is missed by a route."""
    played = await one(library, script({"caller": "My bill", "expect": {"route": None}}), ROUTE)
    [miss] = played.turns[0].misses
    assert (miss.expected, miss.got) == ("no route", "billing (done)")


async def test_a_refused_route_is_told_with_its_code(library: FileLibrary) -> None:
    """A route that the model asked for in vain is shown with the reason of the refusal."""
    wrong: Call = ("route_to_agent", {"agent": "sales"})
    asked = script({"caller": "My bill", "expect": {"route": "billing"}})
    played = await one(library, asked, wrong, "I cannot.")
    assert played.turns[0].misses[0].got == "sales (refused: unknown_agent)"


async def test_a_function_without_a_prepared_answer_is_a_miss(library: FileLibrary) -> None:
    """Nothing is requested for it, and the author learns which call is not answered."""
    other: Call = ("find_invoice", {"number": "99"})
    asked = script({"caller": "My bill"}, {"caller": "Ninety-nine"})
    played = await one(library, asked, ROUTE, other, "That did not work.")
    [miss] = played.turns[1].misses
    assert 'no answer is prepared for find_invoice with {"number": "99"}' in miss.got


@pytest.mark.parametrize(
    ("answer", "status"), [({"fails": "timeout"}, "failed"), ({"status": 404}, "failed")]
)
async def test_servers_that_fail_can_be_played(
    library: FileLibrary, answer: dict[str, Any], status: str
) -> None:
    """An answer may be a failure: the model is told as on the telephone, and the flow stays where it is."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"node": "ask"}},
                   answers={"find_invoice": [answer]})  # fmt: skip
    played = await one(library, asked, ROUTE, FIND, "That did not work.")
    assert played.passed, told([played])
    exchange = played.turns[1].exchange
    assert exchange is not None
    assert [call.status for call in exchange.functions] == [status]


async def test_a_slow_server_is_bridged_by_the_wait_text(library: FileLibrary) -> None:
    """A prepared answer that takes its time lets the agent say what it says while waiting."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"says": "let me look"}},
                   answers={"find_invoice": [{"after_ms": 700, "body": {"status": "open"}}]})  # fmt: skip
    played = await one(library, asked, ROUTE, FIND, "It is seven.")
    assert played.passed, told([played])


async def test_the_judge_decides_where_words_cannot(library: FileLibrary) -> None:
    """``meets`` asks the judge about the reply, in the conversation so far; a no is a miss."""
    for verdict, passed in (("yes", True), ("no", False)):
        opinion = Opinion(verdict)
        asked = script({"caller": "How much?", "expect": {"meets": "tells the amount"}})
        played = await one(library, asked, "It is seven.", opinion=opinion)
        assert played.passed is passed
        [state] = opinion.asked
        assert state["latest_bot_reply"] == "It is seven."
        assert "Acme, hello stranger." in str(state["conversation"])
        assert not passed or played.turns[0].misses == []
    assert played.turns[0].misses[0].expected == "a reply that tells the amount"


async def test_what_comes_after_a_miss_is_not_played(library: FileLibrary) -> None:
    """The report tells the conversation up to the first miss, and which turns were not played."""
    asked = script({"caller": "One", "expect": {"says": "ten"}}, {"caller": "Two"})
    text = told([await one(library, asked, "It is seven.")])
    assert "caller  One" in text
    assert "expected the words 'ten'" in text
    assert "got “It is seven.”" in text
    assert "Two  (not played)" in text
    assert text.endswith("1 conversation, 1 failed")


async def test_a_turn_after_the_end_is_a_miss(library: FileLibrary) -> None:
    """A caller who is to say something on a call that is over has found a fault."""
    asked = script({"caller": "My bill"}, {"caller": "Bye"}, {"caller": "Hello?"})
    played = await one(library, asked, ROUTE, ("end_call", {"reason": "bye"}))
    assert played.turns[2].misses[0].got == "it had ended"


async def test_an_agent_who_cannot_begin_is_told(library: FileLibrary) -> None:
    """A template that is not there, or that lacks something, fails the conversation in a sentence."""
    missing = await one(library, script({"caller": "Hello"}, begin="Nobody"))
    assert missing.fault == "There is no template 'Nobody'."
    assert not missing.passed


async def test_a_model_that_hangs_is_told(library: FileLibrary) -> None:
    """A turn that takes too long fails its conversation and no other."""
    slow = harness(library, "…")
    make_llm = slow.llm

    def hanging_llm(content: Any) -> Any:
        part, model = make_llm(content)
        model.latency_s = 60.0  # type: ignore[attr-defined]
        return part, model

    hung = type(slow)(
        library=slow.library, find=slow.find, llm=hanging_llm, judge=slow.judge, turn_timeout_s=0.3
    )
    [played] = await play(script({"caller": "Hello"}), hung)
    assert played.fault == "The language model did not finish in time, after “Hello”."


async def test_the_report_of_programs_has_everything(library: FileLibrary) -> None:
    """The JSON report tells each turn's steps with their types, and the misses."""
    played = await one(library, script({"caller": "My bill", "expect": {"route": "sales"}}), ROUTE)
    document = as_json([played])
    assert not document["ok"]
    [turn] = document["conversations"][0]["turns"]
    assert [step["type"] for step in turn["steps"]] == ["reply", "route", "node", "reply"]
    assert turn["misses"] == [{"expected": "the route sales", "got": "billing (done)"}]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "while"),
        ("conversations: []", "/conversations"),
        ("conversations: [{name: x, turns: [{caller: hi}]}]", "'begin' is missing"),
        ("begin: x\nconversations: [{name: x, turns: [{caller: hi}, {}]}]", "/conversations/0/turns/1"),
        ("begin: x\nconversations: [{name: x, turns: [{caler: hi}]}]", "/conversations/0/turns/0/caler"),
        (
            "begin: x\nanswers: {f: [{status: 9}]}\nconversations: [{name: x, turns: [{}]}]",
            "/answers/f/0/status",
        ),
    ],
)
def test_faults_of_a_script_are_told_with_their_place(tmp_path: Path, text: str, fault: str) -> None:
    """A file that is no script is refused with the place of what is wrong."""
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(BadFile, match=fault):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(BadFile, match="nowhere"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("just words", "A template with a `name`"),
        ("name: x\nlanugage: en", "templates.yaml:2: /lanugage: Unknown field"),
        ("templates: [{name: x}, {name: x}]", "/templates/1/name: Another template of this set has the name"),
        ("name: x\nroutes: 5", "/routes"),
        (
            "name: x\nkind: orchestrator\nroutes: [{name: a, template: z}]",
            "3: /routes/0/template: No template",
        ),
        ("conversations: []", "script of conversations"),
    ],
)
def test_faults_of_template_files_are_told(tmp_path: Path, text: str, fault: str) -> None:
    """A file of templates that cannot be read as such is refused with what is wrong."""
    path = tmp_path / "templates.yaml"
    path.write_text(text)
    with pytest.raises(BadFiles, match=fault):
        FileLibrary([path])
