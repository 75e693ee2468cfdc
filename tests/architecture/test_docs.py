"""The documents name only files that exist, and have the diagrams and heads that they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
        ),
        ROOT / ".env.example",
        ROOT / "bench" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DECISIONS = ROOT / "docs" / "decisions"

_FOLDERS = "voicebot|handlers|templates|telephony|db|tests|bench|docs"
_PATH = re.compile(rf"(?<![\w/.:{{<*-])(?:{_FOLDERS})/[\w./-]*\w/?(?![\w*{{…]|<(?!br>))")
_CODE = re.compile(r"`([^`\n]+)`|```mermaid\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([\w-]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = _HEADING.findall(document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_named_path_exists(document: Path) -> None:
    """Each path of the repository in inline code or a diagram is a file or folder."""
    text = document.read_text(encoding="utf-8")
    code = "\n".join("".join(found) for found in _CODE.findall(text)) if document.suffix == ".md" else text
    missing = [path for path in _PATH.findall(code) if not (ROOT / path).exists()]
    assert missing == []


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    """Each relative link is a file or folder, and its anchor is a heading of that file."""
    broken = []
    for path, anchor in _LINK.findall(document.read_text(encoding="utf-8")):
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


def test_the_architecture_has_its_diagrams() -> None:
    """There is a diagram of a live call and one of the processes."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    for heading in ("## A live call", "## Processes"):
        section = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
        assert section.count("```mermaid\nflowchart") == 1, heading


@pytest.mark.parametrize(
    ("value", "limit"), [("template_id", 9), ("Audio", 7), ("Speech", 7), ("handoff_id", 9)]
)
def test_the_architecture_lists_short_call_paths(value: str, limit: int) -> None:
    """The documented call path of each value has at most the agreed number of files."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| `?{value}`?, [^|]*\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    count, files = row
    assert len(re.findall(r"`[\w/]+\.py`", files)) == int(count) <= limit


@pytest.mark.parametrize("record", sorted(DECISIONS.glob("0*.md")), ids=lambda path: path.stem)
def test_every_decision_has_a_date_and_a_status(record: Path) -> None:
    """A decision record has a numbered title, a date and a status, and a row in the index."""
    text = record.read_text(encoding="utf-8")
    number = int(record.stem[:4])
    head = rf"# {number}\. [^\n]+\n\nDate: \d{{4}}-\d\d-\d\d · Status: (accepted|superseded by \d+)\n"
    assert re.match(head, text)
    assert f"]({record.name}) |" in (DECISIONS / "README.md").read_text(encoding="utf-8")
