"""The check: every violated rule is reported at its place; a valid template is accepted and compiles."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templates.check import RULES, CheckContext, Report, check_document
from templates.compile import compile_template, entry_node
from templates.problem import Severity
from tests.templates.flow_harness import RecordingResolver
from tests.templates.rule_violations import VIOLATIONS, Violation
from tests.templates.sample_accounts import ORCHESTRATOR_ID, SampleAccount, make_account, sample_accounts

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def report_of(account: SampleAccount) -> Report:
    return check_document(account.document, account.check_context())[1]


def found_in(report: Report) -> set[tuple[str, str]]:
    return {(problem.pointer, problem.code) for problem in report.problems()}


def deviations(violation: Violation, account: SampleAccount) -> list[str]:
    """Deviations of the report from the violation: a missing pointer, other codes, or a wrong ``ok``."""
    place = violation.apply(account)
    report = report_of(account)
    found = found_in(report)
    notes = {code for code, rule in RULES.items() if rule.severity is Severity.NOTE}
    others = {code for _, code in found} - violation.also - {violation.code} - notes
    only_warns = RULES[violation.code].severity is not Severity.ERROR
    return [
        *([] if (place, violation.code) in found else [f"not at {place}, but {sorted(found)}"]),
        *(f"also {code}" for code in sorted(others)),
        *([] if violation.also or report.ok is only_warns else [f"ok: {report.ok}"]),
    ]


@pytest.mark.parametrize(
    "violation", VIOLATIONS, ids=[f"{index}-{violation.code}" for index, violation in enumerate(VIOLATIONS)]
)
def test_violation_is_reported_at_its_pointer(violation: Violation) -> None:
    """A violated rule is reported with its pointer, and no other rule is reported."""
    assert deviations(violation, make_account()) == []


def test_every_rule_has_a_violation() -> None:
    """The violations cover every rule."""
    assert {violation.code for violation in VIOLATIONS} == set(RULES)


@SLOW
@given(account=sample_accounts())
def test_whole_templates_are_accepted_and_compile(account: SampleAccount) -> None:
    """A valid template has neither errors nor warnings, and all its nodes compile."""
    for checked in account.documents:
        account.checked = checked
        content, report = check_document(account.document, account.check_context())
        assert found_in(report) == set()
        assert content is not None
        flow = compile_template(content, RecordingResolver(), extra=["route_to_agent"])
        assert entry_node(flow)["role_message"]
        for name in flow.config.nodes:
            offered = [function.name for function in flow.node(name)["functions"]]  # type: ignore[union-attr]
            assert len(offered) == len(set(offered))
            assert {"route_to_agent", *(function.name for function in content.functions)} <= set(offered)


@SLOW
@given(account=sample_accounts(), violation=st.sampled_from(VIOLATIONS))
def test_broken_templates_are_refused_with_the_right_pointer(
    account: SampleAccount, violation: Violation
) -> None:
    """In any template structure the violated rule is reported at its pointer."""
    assert deviations(violation, account) == []


def test_all_problems_are_reported_at_once() -> None:
    """Problems of structure, flow, functions and routes are all in one report."""
    account = make_account()
    document = account.document
    nodes = document["flow"]["nodes"]
    document["lanugage"] = "en"
    document["limits"]["max_hops"] = "6"
    document["greeting"]["text"] = "Hello {{ nobody }}"
    document["variables"].insert(0, 5)
    document["variables"].append({"name": "9lives"})
    document["functions"][2]["url"] = "http://127.0.0.1/"
    document["functions"][2]["keep"] = {"nobody": "/x"}
    document["routes"][0]["template_id"] = "missing"
    document["routes"][1]["name"] = "back"
    nodes["island"] = {"task_messages": [{"role": "developer", "content": "x"}]}
    nodes["node 1"]["pre_actions"] = [{"type": "tts_say", "text": "Hi"}]
    nodes["node 1"]["functions"] = [{"name": "find_fault", "transition_to": "nowhere"}]
    document["destinations"][0]["number"] = "911"
    errors = report_of(account).errors
    assert {problem.pointer for problem in errors} == {
        "/lanugage",
        "/limits/max_hops",
        "/greeting/text",
        "/variables/0",
        f"/variables/{len(document['variables']) - 1}/name",
        "/functions/2/url",
        "/functions/2/keep/nobody",
        "/routes/0/template_id",
        "/routes/1/name",
        "/flow/nodes/island",
        "/flow/nodes/node 1/pre_actions/0/type",
        "/flow/nodes/node 1/functions/0/name",
        "/flow/nodes/node 1/functions/0/transition_to",
        "/destinations/0/number",
    }


def test_messages_and_remedies_are_sentences() -> None:
    """Messages and remedies are whole sentences without terms of the implementation."""
    for violation in VIOLATIONS:
        account = make_account()
        violation.apply(account)
        report = report_of(account)
        for problem in (*report.errors, *report.warnings):
            for text in (problem.message, problem.remedy):
                assert text.endswith((".", "?")), problem
                assert text[0].isupper() or text[0] in "'`0123456789", problem
                assert "{better}" not in text
                assert not {"pydantic", "pipecat", "dict"} & set(re.findall("[a-z]+", text.lower())), problem


def test_foreign_and_missing_targets_look_the_same() -> None:
    """The report for another account's id equals that for an unknown id."""
    account = make_account()
    answers = set()
    for template_id in ("0190a000-0000-7000-8000-00000000dead", "0190a000-0000-7000-8000-00000000beef"):
        account.document["routes"][0]["template_id"] = template_id
        answers.add(json.dumps(report_of(account).to_json()))
    assert len(answers) == 1


def test_allowed_private_host() -> None:
    """A private address that the operator allows, with its port, may be called."""
    account = make_account()
    account.document["functions"][2]["url"] = "http://127.0.0.1:9000/orders"
    around = account.check_context()
    allowed = CheckContext(
        templates=around.templates,
        numbers=around.numbers,
        providers=around.providers,
        http_allow=frozenset({"127.0.0.1:9000"}),
    )
    assert not check_document(account.document, around)[1].ok
    assert check_document(account.document, allowed)[1].ok


def test_draft_needs_only_a_name() -> None:
    """A document with only a name is a template; the missing conversation is reported."""
    content, report = check_document({"name": "Billing"})
    assert content is not None
    assert [problem.code for problem in report.errors] == ["conversation_missing"]


def test_name_and_prompt_are_a_whole_template() -> None:
    """Name and prompt make a template that could be active."""
    _, report = check_document({"name": "Billing", "prompt": "You answer questions about invoices."})
    assert report.ok


def test_rules_without_context_are_skipped() -> None:
    """Without account data, targets and numbers are not checked."""
    account = make_account()
    _, report = check_document(account.document)
    assert found_in(report) == set()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path] + [inner for key, each in entries for inner in paths(each, (*path, key))]


@SLOW
@given(data=st.data(), junk=st.lists(JSON_VALUES, min_size=1, max_size=4))
def test_any_document_gets_an_answer(data: st.DataObject, junk: list[Any]) -> None:
    """Any value at any place is reported or accepted, and an accepted template compiles."""
    document: Any = copy.deepcopy(make_account().documents[ORCHESTRATOR_ID])
    for value in junk:
        path = data.draw(st.sampled_from(paths(document)))
        if not path:
            document = value
            continue
        place = document
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
    before = copy.deepcopy(document)
    content, report = check_document(document, make_account().check_context())
    assert document == before
    assert content is not None or report.errors
    if content is not None and report.ok:
        compile_template(content, RecordingResolver())
