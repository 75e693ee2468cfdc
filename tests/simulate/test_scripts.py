"""Scripted conversations: expectations are compared with what happened and reported to the author."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from rich.text import Text

from tests.call.virtual_time import virtual_time
from tests.simulate.harness import BILLING, DESK, Opinion, harness
from tests.templates.flow_harness import Call, Say
from voicebot.authoring.files import BadFiles
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.report import report, report_as_json
from voicebot.simulate.runner import ConversationResult, run
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


def report_text(result: list[ConversationResult], **options: bool) -> str:
    return "\n".join(Text.from_markup(line).plain for line in report(result, **options))


async def one(
    library: FileLibrary, script: Script, *turns: Say | Call, opinion: Opinion | None = None
) -> ConversationResult:
    [result] = await run(script, harness(library, *turns, opinion=opinion))
    return result


async def test_conversation_as_expected(library: FileLibrary) -> None:
    """Expectations of route, agent, node, functions, arguments, words, outcome and end are met."""
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
    result = await one(library, expected, *model)
    assert result.passed, report_text([result])
    assert report_text([result]).endswith("1 conversation, all as expected")


@pytest.mark.parametrize(
    ("expect", "expected", "got"),
    [
        ({"says": "seventy"}, "the words 'seventy'", "“It is seven.”"),
        ({"says": "seve"}, "the words 'seve'", "“It is seven.”"),
        ({"never_says": "it is"}, "never the words 'it is'", "“It is seven.”"),
        ({"route": "billing"}, "the route billing", "no route was requested"),
        ({"agent": "Billing"}, "the agent Billing", "Front desk"),
        ({"node": "tell"}, "the node tell", "prompt"),
        ({"outcome": "paid"}, "the outcome paid", "none was recorded"),
        ({"ended": True}, "the end of the call", "it continued"),
        ({"functions": ["find_invoice"]}, "the function find_invoice()", "no function was called"),
    ],
)
async def test_unmet_expectations(
    library: FileLibrary, expect: dict[str, Any], expected: str, got: str
) -> None:
    """Each unmet expectation has what was expected and what happened instead."""
    result = await one(library, script({"caller": "How much?", "expect": expect}), "It is seven.")
    [unmet] = result.turns[0].unmet
    assert (unmet.expected, unmet.got) == (expected, got)
    assert not result.passed


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ([], "no function"),
        ([{"find_invoice": {"number": "13"}}], 'find_invoice("number": "13")'),
        ([{"find_invoice": {"day": "today"}}], 'find_invoice("day": "today")'),
        (["record_outcome", "find_invoice"], "find_invoice()"),
    ],
)
async def test_unmet_expectations_of_functions(
    library: FileLibrary, functions: list[Any], expected: str
) -> None:
    """Other arguments, another order and unexpected calls are reported with the calls that were made."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"functions": functions}})
    result = await one(library, asked, ROUTE, FIND, PAID, "It is seven.")
    [unmet] = result.turns[1].unmet
    assert expected in unmet.expected
    assert 'find_invoice("number": "12"), record_outcome("outcome": "paid")' in unmet.got


async def test_unexpected_route(library: FileLibrary) -> None:
    """``route: null`` is not met by a route."""
    result = await one(library, script({"caller": "My bill", "expect": {"route": None}}), ROUTE)
    [unmet] = result.turns[0].unmet
    assert (unmet.expected, unmet.got) == ("no route", "billing (done)")


async def test_refused_route_has_its_code(library: FileLibrary) -> None:
    """A refused route is reported with the code of the refusal."""
    wrong: Call = ("route_to_agent", {"agent": "sales"})
    asked = script({"caller": "My bill", "expect": {"route": "billing"}})
    result = await one(library, asked, wrong, "I cannot.")
    assert result.turns[0].unmet[0].got == "sales (refused: unknown_agent)"


async def test_function_without_a_prepared_answer(library: FileLibrary) -> None:
    """No request is made, and the report names the call without an answer."""
    other: Call = ("find_invoice", {"number": "99"})
    asked = script({"caller": "My bill"}, {"caller": "Ninety-nine"})
    result = await one(library, asked, ROUTE, other, "That did not work.")
    [unmet] = result.turns[1].unmet
    assert 'no answer is prepared for find_invoice with {"number": "99"}' in unmet.got


@pytest.mark.parametrize(
    ("answer", "status"), [({"fails": "timeout"}, "failed"), ({"status": 404}, "failed")]
)
async def test_prepared_failure(library: FileLibrary, answer: dict[str, Any], status: str) -> None:
    """An answer may be a failure: the model gets it as on a phone call, and the flow stays at its node."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"node": "ask"}},
                   answers={"find_invoice": [answer]})  # fmt: skip
    result = await one(library, asked, ROUTE, FIND, "That did not work.")
    assert result.passed, report_text([result])
    exchange = result.turns[1].exchange
    assert exchange is not None
    assert [call.status for call in exchange.functions] == [status]


async def test_slow_answer_with_wait_text(library: FileLibrary) -> None:
    """During a delayed answer the agent says the wait text."""
    asked = script({"caller": "My bill"}, {"caller": "Twelve", "expect": {"says": "let me look"}},
                   answers={"find_invoice": [{"after_ms": 700, "body": {"status": "open"}}]})  # fmt: skip
    result = await one(library, asked, ROUTE, FIND, "It is seven.")
    assert result.passed, report_text([result])


async def test_judge_decides_meets(library: FileLibrary) -> None:
    """``meets`` asks the judge about the reply in its conversation; a negative verdict is reported."""
    for verdict, passed in (("yes", True), ("no", False)):
        opinion = Opinion(verdict)
        asked = script({"caller": "How much?", "expect": {"meets": "tells the amount"}})
        result = await one(library, asked, "It is seven.", opinion=opinion)
        assert result.passed is passed
        [state] = opinion.asked
        assert state["latest_bot_reply"] == "It is seven."
        assert "Acme, hello stranger." in str(state["conversation"])
        assert not passed or result.turns[0].unmet == []
    assert result.turns[0].unmet[0].expected == "a reply that tells the amount"


async def test_turns_after_an_unmet_expectation_are_not_run(library: FileLibrary) -> None:
    """The report has the turns up to the first unmet expectation, and marks the others as not run."""
    asked = script({"caller": "One", "expect": {"says": "ten"}}, {"caller": "Two"})
    text = report_text([await one(library, asked, "It is seven.")])
    assert "caller  One" in text
    assert "expected the words 'ten'" in text
    assert "got “It is seven.”" in text
    assert "Two  (not run)" in text
    assert text.endswith("1 conversation, 1 failed")


async def test_turn_after_the_end_of_the_call(library: FileLibrary) -> None:
    """A turn of the caller after the end of the call is reported."""
    asked = script({"caller": "My bill"}, {"caller": "Bye"}, {"caller": "Hello?"})
    result = await one(library, asked, ROUTE, ("end_call", {"reason": "bye"}))
    assert result.turns[2].unmet[0].got == "it had ended"


async def test_agent_that_cannot_start(library: FileLibrary) -> None:
    """A missing or incomplete template fails the conversation with a message."""
    missing = await one(library, script({"caller": "Hello"}, begin="Nobody"))
    assert missing.fault == "There is no template 'Nobody'."
    assert not missing.passed


def test_model_that_hangs(library: FileLibrary) -> None:
    """A turn that takes too long fails its conversation only."""
    slow = harness(library, "…")
    make_llm = slow.llm

    def hanging_llm(content: Any, *_: Any) -> Any:
        part, model = make_llm(content, None)
        model.latency_s = 60.0  # type: ignore[attr-defined]
        return part, model

    with virtual_time() as loop:
        [result] = loop.play(run(script({"caller": "Hello"}), replace(slow, llm=hanging_llm)))
    assert result.fault == "The language model did not finish in time, after “Hello”."


async def test_report_as_json(library: FileLibrary) -> None:
    """The JSON report has the steps of each turn with their types, and the unmet expectations."""
    result = await one(library, script({"caller": "My bill", "expect": {"route": "sales"}}), ROUTE)
    document = report_as_json([result])
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
def test_faults_of_a_script_have_places(tmp_path: Path, text: str, fault: str) -> None:
    """A file that is not a script is refused with the place of each fault."""
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(BadFile, match=fault):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
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
def test_faults_of_template_files(tmp_path: Path, text: str, fault: str) -> None:
    """An invalid template file is refused with its faults."""
    path = tmp_path / "templates.yaml"
    path.write_text(text)
    with pytest.raises(BadFiles, match=fault):
        FileLibrary([path])
