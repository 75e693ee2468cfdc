"""The check: every rule is found where it is broken; what is whole is accepted and compiles."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templates.check import RULES, CheckContext, Report, check_document
from templates.compile import compile_template, entry_node
from templates.problem import Severity
from tests.templates.faults import FAULTS, Fault
from tests.templates.scenes import FRONT, Scene, make_scene, scenes
from tests.templates.stage import Toolbox

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def report_of(scene: Scene) -> Report:
    return check_document(scene.document, scene.check_context())[1]


def found_in(report: Report) -> set[tuple[str, str]]:
    return {(problem.pointer, problem.code) for problem in (*report.errors, *report.warnings)}


def complaints(fault: Fault, scene: Scene) -> list[str]:
    """What is wrong with how the check tells of a fault: the place, other codes, or what may be active."""
    place = fault.inflict(scene)
    report = report_of(scene)
    found = found_in(report)
    others = {code for _, code in found} - fault.also - {fault.code}
    only_warns = RULES[fault.code].severity is Severity.WARNING
    return [
        *([] if (place, fault.code) in found else [f"not at {place}, but {sorted(found)}"]),
        *(f"also {code}" for code in sorted(others)),
        *([] if fault.also or report.ok is only_warns else [f"ok: {report.ok}"]),
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{index}-{fault.code}" for index, fault in enumerate(FAULTS)])
def test_rule_is_found_where_it_is_broken(fault: Fault) -> None:
    """A broken rule is named with its pointer, and nothing else is complained of."""
    assert complaints(fault, make_scene()) == []


def test_every_rule_is_broken_by_some_fault() -> None:
    """No rule stands in the table that these tests do not break."""
    assert {fault.code for fault in FAULTS} == set(RULES)


@SLOW
@given(scene=scenes())
def test_whole_templates_are_accepted_and_compile(scene: Scene) -> None:
    """A template without a fault has neither errors nor warnings, and every node of it compiles."""
    for checked in scene.documents:
        scene.checked = checked
        content, report = check_document(scene.document, scene.check_context())
        assert found_in(report) == set()
        assert content is not None
        flow = compile_template(content, Toolbox(), extra=["route_to_agent"])
        assert entry_node(flow)["role_message"]
        for name in flow.config.nodes:
            offered = [function.name for function in flow.node(name)["functions"]]  # type: ignore[union-attr]
            assert len(offered) == len(set(offered))
            assert {"route_to_agent", *(function.name for function in content.functions)} <= set(offered)


@SLOW
@given(scene=scenes(), fault=st.sampled_from(FAULTS))
def test_broken_templates_are_refused_with_the_right_pointer(scene: Scene, fault: Fault) -> None:
    """Whatever the template looks like, the broken rule is the one that is named, where it is broken."""
    assert complaints(fault, scene) == []


def test_twelve_faults_have_twelve_pointers() -> None:
    """Faults of shape, of flow, of functions and of routes are all named at once."""
    scene = make_scene()
    document = scene.document
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
    errors = report_of(scene).errors
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


def test_every_problem_teaches() -> None:
    """Each fault has a message and a remedy in whole sentences, without our own vocabulary."""
    for fault in FAULTS:
        scene = make_scene()
        fault.inflict(scene)
        report = report_of(scene)
        for problem in (*report.errors, *report.warnings):
            for text in (problem.message, problem.remedy):
                assert text.endswith((".", "?")), problem
                assert text[0].isupper() or text[0] in "'`0123456789", problem
                assert "{better}" not in text
                assert not any(word in text.lower() for word in ("pydantic", "pipecat", "dict")), problem


def test_foreign_and_missing_targets_look_the_same() -> None:
    """An author cannot find out whether an id belongs to another account."""
    scene = make_scene()
    answers = set()
    for template_id in ("0190a000-0000-7000-8000-00000000dead", "0190a000-0000-7000-8000-00000000beef"):
        scene.document["routes"][0]["template_id"] = template_id
        answers.add(json.dumps(report_of(scene).to_json()))
    assert len(answers) == 1


def test_allowed_private_host() -> None:
    """A private address that the operator allows, with its port, may be called."""
    scene = make_scene()
    scene.document["functions"][2]["url"] = "http://127.0.0.1:9000/orders"
    around = scene.check_context()
    allowed = CheckContext(
        templates=around.templates, numbers=around.numbers, http_allow=frozenset({"127.0.0.1:9000"})
    )
    assert not check_document(scene.document, around)[1].ok
    assert check_document(scene.document, allowed)[1].ok


def test_draft_needs_only_a_name() -> None:
    """A document with a name has the shape of a template; what it lacks for a call is told."""
    content, report = check_document({"name": "Billing"})
    assert content is not None
    assert [problem.code for problem in report.errors] == ["conversation_missing"]


def test_name_and_prompt_are_a_whole_template() -> None:
    """Name and prompt make a template that could be active."""
    _, report = check_document({"name": "Billing", "prompt": "You answer questions about invoices."})
    assert report.ok


def test_unknown_check_context_are_not_guessed_at() -> None:
    """Without the account at hand, nothing is said about targets and numbers."""
    scene = make_scene()
    _, report = check_document(scene.document)
    assert found_in(report) == set()


JSON = st.recursive(
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
@given(data=st.data(), junk=st.lists(JSON, min_size=1, max_size=4))
def test_any_document_gets_an_answer(data: st.DataObject, junk: list[Any]) -> None:
    """Whatever stands wherever, the check answers, and what it accepts compiles."""
    document: Any = copy.deepcopy(make_scene().documents[FRONT])
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
    content, report = check_document(document, make_scene().check_context())
    assert document == before
    assert content is not None or report.errors
    if content is not None and report.ok:
        compile_template(content, Toolbox())
