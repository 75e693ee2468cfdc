"""`voicebot journal verify`."""

from pathlib import Path

from typer.testing import CliRunner

from voicebot.cli import app
from voicebot.handoffs.journal_files import JournalFiles, journal_files


def test_the_command_names_the_first_bad_line(tmp_path: Path) -> None:
    """A sound journal is counted; of an altered one, file and line are said, with exit status 1."""
    files = JournalFiles(tmp_path)
    files.open()
    files.append([{"seq": seq, "kind": "gate_transition", "summary": "x"} for seq in (1, 2, 3)])
    files.close()
    runner = CliRunner()
    assert "3 lines" in runner.invoke(app, ["journal", "verify", str(tmp_path)]).output
    [path] = journal_files(tmp_path)
    path.write_text(path.read_text().replace('"seq":2', '"seq":5'))

    broken = runner.invoke(app, ["journal", "verify", str(tmp_path)])

    assert broken.exit_code == 1
    assert f"{path.name}, line 2: altered" in broken.output
