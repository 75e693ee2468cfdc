"""Structural problems and problems of the account in one report."""

from __future__ import annotations

from templates.check import CheckContext, check_reading, read
from tests.templates.sample_accounts import ORCHESTRATOR_ID, make_account


def test_structural_problems_do_not_hide_account_problems() -> None:
    """A document with an unknown field also gets the problem of a missing target."""
    document = make_account().document
    document["lanugage"] = "en"
    document["routes"].insert(0, "billing")
    reading = read(document)
    assert reading.content is not None
    report = check_reading(reading, CheckContext(template_id=ORCHESTRATOR_ID, templates={}, numbers={}))
    found = {(problem.pointer, problem.code) for problem in report.errors}
    assert {("/lanugage", "unknown_field"), ("/routes/0", "wrong_type")} < found
    assert {("/routes/1/template_id", "target_missing"), ("/number_id", "number_unknown")} < found
