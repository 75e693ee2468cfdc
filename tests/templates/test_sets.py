"""Sets of templates in files: texts, names and the check of a whole set."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templates.check import Report, check_document
from templates.model import TemplateContent
from templates.sets import (
    FileTemplate,
    SetContext,
    UnreadableText,
    canonical,
    check_set,
    dump_text,
    members,
    read_text,
    with_names,
)
from tests.templates.faults import FAULTS, Fault
from tests.templates.scenes import FRONT, NUMBER, Scene, make_scene, scenes

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
E164 = "+14155550123"
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TRICKY = [
    "no",
    "~",
    "1e3",
    "0o7",
    "12:30",
    "2026-01-31",
    "<<",
    "=",
    " a\n b",
    "a\n\n",
    "- x",
    "#",
    "\u2028",
    "😀",
]


def found_in(report: Report) -> set[tuple[str, str]]:
    return {(problem.pointer, problem.code) for problem in (*report.errors, *report.warnings)}


def names_of(scene: Scene) -> dict[str, str]:
    """The names of a scene's templates by id."""
    return {key: document["name"] for key, document in scene.documents.items()}


def named(scene: Scene, names: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The templates of a scene as files have them, the checked one first."""
    names = names or names_of(scene)
    keys = [scene.checked, *(key for key in scene.documents if key != scene.checked)]
    return [with_names(scene.documents[key], names, {NUMBER: E164}) for key in keys]


def outside(scene: Scene, names: dict[str, str] | None = None) -> SetContext:
    """The account of a scene, as far as it is not in the set."""
    return SetContext(
        ids={name: key for key, name in (names or names_of(scene)).items()},
        templates={},
        numbers={E164: NUMBER},
        active_numbers=scene.numbers,
    )


@SLOW
@given(document=JSON | st.sampled_from(TRICKY))
def test_what_is_written_as_yaml_is_read_as_the_same(document: Any) -> None:
    """Any JSON document comes back from YAML as it was, whatever its texts look like."""
    assert read_text(dump_text(document)).document == document
    assert read_text(dump_text(document, "json"), "json").document == document


def test_texts_of_several_lines_are_written_as_blocks() -> None:
    """A prompt stands in a file as an author would type it."""
    text = dump_text({"prompt": "You are Ada.\nYou are brief.\n", "routes": [{"name": "no"}]})
    assert text == "prompt: |\n  You are Ada.\n  You are brief.\nroutes:\n  - name: 'no'\n"


def test_yaml_holds_no_surprises() -> None:
    """Norway, times and dates are texts; names of members are texts whatever they look like."""
    text = "language: no\nat: 12:30\nday: 2026-01-31\ncases: {404: a, yes: b}\ncount: 5\nflag: true\nnone:"
    assert read_text(text).document == {
        "language": "no",
        "at": "12:30",
        "day": "2026-01-31",
        "cases": {"404": "a", "yes": "b"},
        "count": 5,
        "flag": True,
        "none": None,
    }


@pytest.mark.parametrize(
    ("text", "fault", "line"),
    [
        ("a: &x [1]\nb: *x", "References", 2),
        ("a: !!python/name:os.system x", "Tags", 1),
        ("a: !include other.yaml", "Tags", 1),
        ("a: 1\nb: 2\na: 3", "'a' is written twice, first in line 1", 3),
        ("a: 1\n---\nb: 2", "One document is expected", 2),
        ("\n".join(f"{' ' * depth}a:" for depth in range(100)), "nested deeper", 69),
        ("[" * 5000, "nested deeper", 1),
        ("[" + "1," * 200_001 + "]", "more than 200000 values", 1),
        ("a: {b: c", "not YAML", 2),
        ("? [a]\n: b", "name of a member", 1),
        ("a: " + "9" * 5000, "too many digits", 1),
        ("x" * (2 * 1024 * 1024 + 1), "bytes", None),
        (b"a: 1\nb: \xff", "not UTF-8", 2),
    ],
)
def test_what_is_refused_in_yaml_is_told_with_its_line(text: str, fault: str, line: int | None) -> None:
    """References, tags, repeated members, endless depth and length are refused before they cost anything."""
    with pytest.raises(UnreadableText, match=fault) as caught:
        read_text(text)
    assert caught.value.line in (line, (line or 0) - 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("{", "not JSON"), ('{"a": 1, "a": 2}', "twice"), ("[" * 100_000, "nested"), ("9" * 5000, "digits")],
)
def test_what_is_refused_in_json_is_told(text: str, fault: str) -> None:
    """A file of JSON is held to the same."""
    with pytest.raises(UnreadableText, match=fault):
        read_text(text, "json")


def test_places_have_lines() -> None:
    """A part is told by its line; one that is missing, by the line of what it is missing from."""
    text = read_text("templates:\n  - name: a\n    routes:\n      - name: x\n        when: y\n")
    assert text.line("/templates/0/routes/0/when") == 5
    assert text.line("/templates/0/routes/0/template") == 4
    assert text.line("/nothing") == 1


def test_a_document_is_one_template_or_a_list() -> None:
    """Each template of a list is known by its pointer."""
    one, other = {"name": "a"}, {"name": "b"}
    assert members(one) == [("", one)]
    assert members({"templates": [one, other]}) == [("/templates/0", one), ("/templates/1", other)]


@SLOW
@given(scene=scenes())
def test_names_and_ids_say_the_same(scene: Scene) -> None:
    """A set written with names is checked as the templates with ids are, and becomes the same templates."""
    checked = check_set(named(scene), outside(scene))
    for each in checked:
        assert found_in(each.report) == set()
        assert each.content == TemplateContent.model_validate(scene.documents[each.template_id])


@SLOW
@given(scene=scenes())
def test_a_canonical_document_says_all(scene: Scene) -> None:
    """What is left out is the default: the canonical document is the same template, and its own canonical."""
    for document in named(scene):
        template = FileTemplate.model_validate(document)
        written = canonical(template)
        assert FileTemplate.model_validate(written) == template
        assert canonical(FileTemplate.model_validate(written)) == written
        assert json.loads(json.dumps(written)) == written


def test_a_canonical_document_is_in_the_model_s_order() -> None:
    """Members stand in the model's order, names where ids would be, nodes as their author has them."""
    content = {
        "status": "active",
        "name": "Desk",
        "routes": [{"when": "w", "template": "Billing", "name": "r"}],
        "number": E164,
        "flow": {
            "nodes": {"b": {}, "a": {"functions": [{"name": "f", "transition_to": "b"}]}},
            "initial_node": "a",
        },
        "tts": {},
    }
    written = canonical(FileTemplate.model_validate(content))
    assert list(written) == ["name", "status", "number", "flow", "routes"]
    assert list(written["routes"][0]) == ["name", "template", "when"]
    assert list(written["flow"]["nodes"]) == ["b", "a"]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{index}-{fault.code}" for index, fault in enumerate(FAULTS)])
def test_a_broken_set_is_reported_as_a_broken_template(fault: Fault) -> None:
    """A fault is found in a set with names where it is found in the document with ids."""
    scene = make_scene()
    names = names_of(scene)
    fault.inflict(scene)
    expected = found_in(check_document(scene.document, scene.check_context())[1])
    got = found_in(check_set(named(scene, names), outside(scene, names))[0].report)
    place = {"/number_id": "/number"}
    assert {(place.get(p, p).replace("/template_id", "/template"), code) for p, code in expected} == {
        (place.get(p, p).replace("/template_id", "/template"), code) for p, code in got
    }


def test_faults_of_names_are_told_where_they_are_written() -> None:
    """An unknown name with what may be meant, two ways to say one thing, and a name that is no text."""
    desk = {
        "name": "Desk",
        "kind": "orchestrator",
        "number": 5,
        "prompt": "You answer.",
        "routes": [
            {"name": "a", "template": "Biling", "when": "money"},
            {"name": "b", "template": "Billing", "template_id": FRONT, "when": "parcels"},
            {"name": "c", "template": ["Billing"], "when": "passwords"},
        ],
    }
    checked, _ = check_set([desk, {"name": "Billing", "prompt": "x"}])
    assert checked.content is None
    assert {
        ("/routes/0/template", "target_missing"),
        ("/routes/1/template", "reference_twice"),
        ("/routes/2/template", "wrong_type"),
        ("/number", "wrong_type"),
    } <= found_in(checked.report)
    assert not [
        place for place, _ in found_in(checked.report) if place.endswith(("template_id", "number_id"))
    ]
    [misspelt] = [each for each in checked.report.errors if each.code == "target_missing"]
    assert "Did you mean 'Billing'?" in misspelt.message


def test_what_is_not_known_is_not_guessed() -> None:
    """Without the account, ids, numbers and who routes to an agent alone are nobody's fault."""
    agent = {"name": "Billing", "status": "active", "description": "Money.", "prompt": "You are Ada."}
    desk = {
        "name": "Desk", "kind": "orchestrator", "status": "active", "number": E164, "prompt": "You answer.",
        "routes": [{"name": "a", "template_id": FRONT, "when": "money"}],
    }  # fmt: skip
    assert {code for _, code in found_in(check_set([agent])[0].report)} == {"voice_default"}
    assert {code for _, code in found_in(check_set([desk])[0].report)} == {"voice_default"}
    known = SetContext(templates={}, numbers={}, active_numbers={})
    assert {code for _, code in found_in(check_set([agent], known)[0].report)} == {
        "voice_default",
        "agent_unreached",
    }
    assert {("/routes/0/template_id", "target_missing"), ("/number", "number_unknown")} <= found_in(
        check_set([desk], known)[0].report
    )


def test_documents_of_the_api_are_a_set() -> None:
    """Ids that the set's documents say they have are understood among them."""
    agent = {"id": FRONT, "revision": 3, "name": "Billing", "prompt": "You are Ada."}
    desk = {
        "id": NUMBER,
        "name": "Desk",
        "kind": "orchestrator",
        "routes": [{"name": "a", "template_id": FRONT}],
    }
    first, second = check_set([desk, agent])
    assert first.content is not None
    assert first.content.routes[0].template_id == second.template_id
