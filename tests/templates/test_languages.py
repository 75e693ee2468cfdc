"""A route to an agent of another language is no mistake where it says so."""

from __future__ import annotations

import pytest

from templates.check import check_document
from templates.languages import names_language
from tests.templates.sample_accounts import make_account


def warned(when: str) -> bool:
    """Whether the check warns of a French agent whom an English orchestrator routes to on these words."""
    account = make_account()
    route = account.document["routes"][0]
    route["when"] = when
    account.documents[route["template_id"]]["language"] = "fr-CA"
    _, report = check_document(account.document, account.check_context())
    return "language_mismatch" in {problem.code for problem in report.warnings}


@pytest.mark.parametrize("when", ["The caller speaks French.", "Parle français : bonjour.", "Needs fr-CA."])
def test_a_route_that_names_the_language_is_meant(when: str) -> None:
    """Its name in English, its own name and its tag do."""
    assert not warned(when)


@pytest.mark.parametrize("when", ["The caller asks for money.", "The caller speaks Spanish.", "Not afr-CAN."])
def test_a_route_that_names_no_language_or_another_is_warned_of(when: str) -> None:
    """Words about something else do not tell a model that another language comes."""
    assert warned(when)


def test_a_language_without_a_name_here_is_known_by_its_tag() -> None:
    """Of languages that few speak the tag is enough."""
    assert names_language("Whoever speaks gsw", "gsw")
    assert not names_language("Whoever speaks gswx", "gsw")
