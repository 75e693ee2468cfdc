"""The authors' guide to HTTP functions describes the actual behaviour."""

from __future__ import annotations

import json
import re
from pathlib import Path

from handlers.http import HttpFailure
from handlers.http.errors import StatusRefused
from templates.check import check_document

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "http-functions.md").read_text(encoding="utf-8")


def test_example_of_the_guide_passes_the_check() -> None:
    """The only problem of the guide's template is the default voice."""
    (example,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    _, report = check_document(json.loads(example))
    assert [problem.code for problem in (*report.errors, *report.warnings)] == ["voice_default"]


def test_guide_explains_every_code() -> None:
    """The guide's table contains exactly the failure codes."""
    explained = set(re.findall(r"^\| `([a-z_]+)`", GUIDE, re.MULTILINE))
    codes = {failure.code for failure in HttpFailure.__subclasses__() if failure is not StatusRefused}
    assert explained - {"http_"} == codes
