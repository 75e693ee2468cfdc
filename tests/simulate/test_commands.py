"""`voicebot chat` and `voicebot test` as processes, with the sandbox's model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from db import accounts
from db.pool import Database
from db.templates import TemplateDraft, create
from templates.model import TemplateContent
from tests import forked
from tests.forked import Ran
from tests.simulate.harness import BILLING, DESK

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "try-it.md"
DEMO = ROOT / "voicebot" / "sandbox" / "demo" / "templates"


async def run(*arguments: str | Path, stdin: str = "", database_url: str = "") -> Ran:
    """Run the command line without any settings, data or keys."""
    with tempfile.TemporaryDirectory() as home:
        environment = at_home(home, database_url)
        return await forked.run(
            list(map(str, arguments)), stdin=stdin, environment=environment, cwd=Path(home)
        )


async def interrupted(*arguments: str | Path, at: str) -> Ran:
    """Run it in a process, and interrupt it as by Ctrl-C when it has printed ``at``."""
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicebot", *map(str, arguments),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=home, env=at_home(home), preexec_fn=heed_interrupts,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                await process.stdout.readuntil(at.encode())
                process.send_signal(signal.SIGINT)
                await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        out, err = await process.communicate()
    return Ran(process.returncode, out.decode(), err.decode())


def heed_interrupts() -> None:
    """Restore the default handling of SIGINT, which a background test run ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def at_home(home: str, database_url: str = "") -> dict[str, str]:
    """An environment without settings."""
    return {"DATABASE_URL": database_url, "PYTHONPATH": str(ROOT), "HOME": home, "COLUMNS": "200"}


def templates(folder: Path) -> Path:
    """Write the two templates into files."""
    (folder / "desk.yaml").write_text(DESK)
    (folder / "billing.yaml").write_text(BILLING)
    return folder


async def test_conversation_of_the_guide(tmp_path: Path) -> None:
    """The script of the guide passes with the demo's templates, and prints the report only."""
    [script] = re.findall(r"```yaml\n(templates:.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "conversations.yaml"
    file.write_text(script.replace("voicebot/sandbox/demo/templates", str(DEMO)))
    ran = await run("test", file, "--sandbox")
    assert (ran.status, ran.err) == (0, ""), ran
    assert re.fullmatch(
        r"✓ A balance is read out \(3 turns, [\d.]+ s\)\n1 conversation, all as expected\n", ran.out
    )


async def test_failed_conversation_ends_with_1(tmp_path: Path) -> None:
    """The status is 1, and the JSON report lists the unmet expectations."""
    file = templates(tmp_path) / "script"
    file.write_text(
        "templates: [desk.yaml, billing.yaml]\nbegin: Front desk\n"
        "conversations: [{name: Wrong, turns: [{expect: {says: good morning}}]}]"
    )
    ran = await run("test", file, "--sandbox", "--json")
    assert ran.status == 1, ran
    report = json.loads(ran.out)
    assert report["conversations"][0]["turns"][0]["misses"][0]["expected"] == "the words 'good morning'"


async def test_unreadable_file_ends_with_2(tmp_path: Path) -> None:
    """The status is 2, and the place of the fault is printed without a traceback."""
    file = tmp_path / "script.yaml"
    file.write_text("conversations: [{name: x, turns: [{caler: hi}]}]")
    ran = await run("test", file)
    assert ran.status == 2
    assert "/conversations/0/turns/0/caler" in ran.err
    assert "Traceback" not in ran.err


async def test_chat_reads_turns_from_a_pipe(tmp_path: Path) -> None:
    """Lines of standard input are the caller's turns; events are printed; the end of input hangs up."""
    ran = await run(
        "chat", "Front desk", "--templates", templates(tmp_path), "--sandbox",
        stdin="I have a question about a bill.\n\n/state\n",
    )  # fmt: skip
    assert ran.status == 0, ran
    assert "Front desk  Acme, hello stranger." in ran.out
    assert "routed to Billing (billing)" in ran.out
    assert '"agent": "Billing"' in ran.out
    assert "the call ended, by the caller: hangup" in ran.out


async def test_interrupt_hangs_up(tmp_path: Path) -> None:
    """Ctrl-C ends the conversation and the command while it waits for a line."""
    ran = await interrupted(
        "chat", "Front desk", "--templates", templates(tmp_path), at="Acme, hello stranger."
    )
    assert ran.status == 130, ran
    assert "the call ended, by the caller" in ran.out
    assert "Traceback" not in ran.err


async def test_chat_as_json(tmp_path: Path) -> None:
    """With --json every turn is one line of JSON."""
    folder = templates(tmp_path)
    ran = await run(
        "chat", "Front desk", "--templates", folder, "--sandbox", "--json",
        "--payload", '{"caller": "Ada"}', stdin="I have a question about a bill.\n/quit\n",
    )  # fmt: skip
    assert ran.status == 0, ran
    opening, turn, end = map(json.loads, ran.out.splitlines())
    assert [step["text"] for step in opening["steps"] if step["type"] == "reply"] == ["Acme, hello Ada."]
    assert turn["said"] == "I have a question about a bill."
    assert "route" in {step["type"] for step in turn["steps"]}
    assert [step["type"] for step in end["steps"]] == ["ended"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat", "Nobody"), "There is no template 'Nobody'. Templates: 'Billing', 'Front desk'."),
        (("chat", "Front desk", "--payload", "[]"), "--payload:\n  must be a JSON object"),
    ],
)
async def test_errors_are_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """Unknown templates and invalid payloads end with status 2 and a message."""
    ran = await run(*arguments, "--templates", templates(tmp_path))
    assert ran.status == 2, ran
    assert message in ran.err
    assert "Traceback" not in ran.err


async def test_chat_with_a_template_of_the_account(database: Database, database_url: str) -> None:
    """Without files, a template of the only account is used, drafts included; several need a choice."""
    refused = await run("chat", "Sleepy", database_url=database_url)
    assert refused.status == 2, refused
    assert "There is no account" in refused.err
    account = await accounts.create(database, "Acme")
    content = TemplateContent.model_validate(
        {"name": "Sleepy", "prompt": "You are Ada.", "greeting": {"text": "Yes?"}}
    )
    draft = TemplateDraft(
        name="Sleepy", kind="agent", status="draft", number_id=None, content=content.model_dump(mode="json"),
        problems=[], references=[], changed=[], saved_by=None,
    )  # fmt: skip
    await create(database, account.id, draft)
    ran = await run("chat", "Sleepy", "--sandbox", database_url=database_url)
    assert ran.status == 0, ran
    assert "Sleepy  Yes?" in ran.out
    await accounts.create(database, "Other")
    several = await run("chat", "Sleepy", database_url=database_url)
    assert several.status == 2
    assert "--account" in several.err
    chosen = await run("chat", "Sleepy", "--sandbox", "--account", str(account.id), database_url=database_url)
    assert chosen.status == 0, chosen


async def test_an_unknown_template_is_answered_with_a_similar_name(tmp_path: Path) -> None:
    """A name that no template has is refused with the one that was possibly meant."""
    ran = await run("chat", "Front dsk", "--templates", templates(tmp_path), "--sandbox")
    assert ran.status == 2
    assert "There is no template 'Front dsk'. Did you mean 'Front desk'?" in ran.err


async def test_without_a_key_the_sandbox_is_named(tmp_path: Path) -> None:
    """A conversation whose model cannot be reached ends with status 1, and a message names `--sandbox`."""
    ran = await run("chat", "Front desk", "--templates", templates(tmp_path), stdin="A bill.\nHello?\n")
    assert ran.status == 1
    assert "OPENAI_API_KEY" in ran.err
    assert "--sandbox" in ran.err


async def test_a_typo_in_a_script_has_its_line_and_the_right_name(tmp_path: Path) -> None:
    """An unknown member of a conversation is reported with its line and the member that was meant."""
    file = tmp_path / "conversations.yaml"
    file.write_text(
        "conversations:\n  - name: One\n    begin: Front desk\n    turns:\n"
        "      - caller: Hello\n        expect: {sayz: [Hello]}\n"
    )
    ran = await run("test", file, "--sandbox")
    assert ran.status == 2
    assert "line 6: /conversations/0/turns/0/expect/sayz: There is no member 'sayz' here." in ran.err
    assert "Did you mean 'says'?" in ran.err


async def test_a_directory_without_templates_is_refused(tmp_path: Path) -> None:
    """`voicebot check` of an empty directory does not pass."""
    ran = await run("check", tmp_path)
    assert ran.status == 2
    assert "No template file is here" in ran.err


async def test_the_prompt_is_shown(tmp_path: Path) -> None:
    """`voicebot chat --show-prompt` prints messages, tools, answer and times of each request."""
    ran = await run(
        "chat",
        "Front desk",
        "--templates",
        templates(tmp_path),
        "--sandbox",
        "--show-prompt",
        stdin="A bill.\n",
    )
    assert ran.status == 0, ran.err
    assert "system  You answer the telephone." in ran.out
    assert '"name": "route_to_agent"' in ran.out
    assert re.search(r"total \d+ ms, first token \d+ ms, \d+ tokens", ran.out)
