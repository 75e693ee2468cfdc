"""The authors' guide to HTTP functions says what is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from handlers.http import HttpFailure
from handlers.http.errors import StatusRefused
from templates.check import check_document

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "http-functions.md").read_text(encoding="utf-8")


def test_the_example_can_be_saved() -> None:
    """The check finds nothing in the guide's template but that it leaves the voice to chance."""
    (example,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    _, report = check_document(json.loads(example))
    assert [problem.code for problem in (*report.errors, *report.warnings)] == ["voice_default"]


def test_every_failure_is_explained() -> None:
    """The guide's table has every code that a model may be told, and no other."""
    explained = set(re.findall(r"^\| `([a-z_]+)`", GUIDE, re.MULTILINE))
    codes = {failure.code for failure in HttpFailure.__subclasses__() if failure is not StatusRefused}
    assert explained - {"http_"} == codes
