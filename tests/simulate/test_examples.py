"""Every example in docs/examples passes the check and its conversations, and these would notice a fault."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from loguru import logger
from rich.text import Text

from templates.sets import check_set
from tests import forked
from voicebot.authoring.files import read_files
from voicebot.call.text.judge import Judge
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.vendors.latency import Latency
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.report import report
from voicebot.simulate.runner import ConversationResult, SimulationSetup, run
from voicebot.simulate.script import Script, load

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
WRONG: dict[str, Any] = {
    "says": ["words that nobody says"],
    "route": "nowhere",
    "agent": "Nobody",
    "node": "nowhere",
    "functions": ["no_such_function"],
    "outcome": "no_such_outcome",
}

each_example = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


@pytest.fixture(autouse=True)
def quiet_engine() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(latency=Latency(first_token_ms=0, token_ms=0)) as it:
        yield it


async def run_script(script: Script, folder: Path, sandbox: Sandbox) -> list[ConversationResult]:
    """Run a script as `voicebot test --sandbox` does in this directory."""
    library = FileLibrary([folder / path for path in script.templates])
    llm = Providers(Settings(_env_file=None, **sandbox.env)).llm

    async def find(name: str) -> UUID:
        return library.find(name)

    return await run(
        script, SimulationSetup(library=library, find=find, llm=llm, judge=lambda: Judge.by_model(llm))
    )


@pytest.mark.long
async def test_commands_of_the_readme() -> None:
    """The first runs an example's conversations; the second is a chat with the answers of the script."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    [commands] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    test, chat = (shlex.split(line)[1:] for line in commands.splitlines())
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    said = "I would like to make an appointment.\nOn Tuesday.\n"
    tested, chatted = await asyncio.gather(
        forked.run(test, environment=environment, cwd=ROOT),
        forked.run(chat, stdin=said, environment=environment, cwd=ROOT),
    )
    assert tested.status == 0, tested
    assert "all as expected" in tested.out
    assert chatted.status == 0, chatted
    assert "nine fifteen or eleven" in chatted.out


def test_readme_lists_every_example() -> None:
    """The table has one line for each directory, and no other."""
    table = re.findall(r"^\| \[(\S+)\]\((\S+)\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == [(path.name, path.name) for path in FOLDERS]


@each_example
def test_example_passes_the_check(folder: Path) -> None:
    """No template of the set has an error or a warning."""
    checked = check_set([written.document for written in read_files([folder])])
    found = [problem for each in checked for problem in (*each.report.errors, *each.report.warnings)]
    assert found == []
    assert {each.content.status for each in checked if each.content} == {"active"}


@each_example
async def test_conversations_of_the_example_pass(folder: Path, sandbox: Sandbox) -> None:
    """There are at least four conversations, and all pass."""
    script = load(folder / "conversations.yaml")
    results = await run_script(script, folder, sandbox)
    printed = "\n".join(Text.from_markup(line).plain for line in report(results))
    assert all(each.passed for each in results), printed
    assert len(results) >= 4


@each_example
async def test_conversations_of_the_example_can_fail(folder: Path, sandbox: Sandbox) -> None:
    """One expectation of each conversation, of different kinds, is changed: only that one fails."""
    document = yaml.safe_load((folder / "conversations.yaml").read_text(encoding="utf-8"))
    spoilt = [spoil(each, number) for number, each in enumerate(document["conversations"])]
    results = await run_script(Script.model_validate(document), folder, sandbox)
    for (turn, wrong), each in zip(spoilt, results, strict=True):
        assert [index for index, found in enumerate(each.turns) if found.unmet] == [turn], each.name
        [unmet] = each.turns[turn].unmet
        assert wrong in unmet.expected


def spoil(conversation: dict[str, Any], number: int) -> tuple[int, str]:
    """Change one expectation of a conversation; return its turn and what is expected now."""
    places = [
        (index, member)
        for index, turn in enumerate(conversation["turns"])
        for member in turn.get("expect", {})
        if member in WRONG and turn["expect"][member] is not None
    ]
    index, member = places[number % len(places)]
    conversation["turns"][index]["expect"][member] = WRONG[member]
    return index, str(WRONG[member][0] if isinstance(WRONG[member], list) else WRONG[member])
