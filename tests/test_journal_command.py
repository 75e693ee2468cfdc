"""`voicebot journal verify`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from voicebot.cli import app
from voicebot.config import Settings
from voicebot.handoffs.journal_chain import JournalKeys
from voicebot.handoffs.journal_files import JournalFiles, journal_files

SECRET = "s" * 32


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret key, and a data directory without a database."""
    monkeypatch.setenv("VOICEBOT_SECRET_KEY", SECRET)
    monkeypatch.setenv("VOICEBOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("DATABASE_URL", raising=False)


def make_lines(directory: Path) -> None:
    """Three lines in a file."""
    files = JournalFiles(directory, JournalKeys(Settings().fernet_keys()))
    files.open()
    files.append([{"seq": seq, "kind": "gate_transition", "summary": "x"} for seq in (1, 2, 3)])
    files.close()


def run(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["journal", "verify", *map(str, arguments)])


@pytest.mark.usefixtures("environment")
def test_the_command_names_the_first_bad_line(tmp_path: Path) -> None:
    """A sound journal is counted; of an altered or absent one it is said where, with exit status 1."""
    make_lines(tmp_path)
    sound = run(tmp_path)
    assert (sound.exit_code, "3 lines" in sound.output) == (0, True)
    assert "not compared with the database" in sound.output
    mistyped = run(tmp_path / "nowhere")
    assert (mistyped.exit_code, "is not a directory" in mistyped.output) == (1, True)
    [path] = journal_files(tmp_path)
    path.write_text(path.read_text().replace('"seq":2', '"seq":5'))

    broken = run(tmp_path)

    assert broken.exit_code == 1
    assert f"{path.name}, line 2: altered" in broken.output


@pytest.mark.usefixtures("environment")
def test_a_journal_of_another_key_cannot_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says that the key is missing; it makes no key of its own."""
    make_lines(tmp_path)
    monkeypatch.delenv("VOICEBOT_SECRET_KEY")
    missing = run(tmp_path)

    assert missing.exit_code == 1
    assert "is not one of VOICEBOT_SECRET_KEY" in missing.output
    assert not (tmp_path / "data").exists()
