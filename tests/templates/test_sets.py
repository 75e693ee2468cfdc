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
from tests.templates.rule_violations import VIOLATIONS, Violation
from tests.templates.sample_accounts import (
    NUMBER_ID,
    ORCHESTRATOR_ID,
    PROVIDERS,
    SampleAccount,
    make_account,
    sample_accounts,
)

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
E164 = "+14155550123"
JSON_VALUES = st.recursive(
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


def names_of(account: SampleAccount) -> dict[str, str]:
    """Template id → name."""
    return {key: document["name"] for key, document in account.documents.items()}


def named(account: SampleAccount, names: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The account's templates with names, as in a file; the checked one is first."""
    names = names or names_of(account)
    keys = [account.checked, *(key for key in account.documents if key != account.checked)]
    return [with_names(account.documents[key], names, {NUMBER_ID: E164}) for key in keys]


def outside(account: SampleAccount, names: dict[str, str] | None = None) -> SetContext:
    """The account data that is not in the set."""
    return SetContext(
        ids={name: key for key, name in (names or names_of(account)).items()},
        templates={},
        numbers={E164: NUMBER_ID},
        known_numbers=account.numbers,
        providers=PROVIDERS,
    )


@SLOW
@given(document=JSON_VALUES | st.sampled_from(TRICKY))
def test_written_documents_are_read_back_unchanged(document: Any) -> None:
    """Any JSON document is read back unchanged from YAML and from JSON."""
    assert read_text(dump_text(document)).document == document
    assert read_text(dump_text(document, "json"), "json").document == document


def test_multi_line_strings_are_written_as_block_scalars() -> None:
    """A prompt of several lines is written as a YAML block scalar."""
    text = dump_text({"prompt": "You are Ada.\nYou are brief.\n", "routes": [{"name": "no"}]})
    assert text == "prompt: |\n  You are Ada.\n  You are brief.\nroutes:\n  - name: 'no'\n"


def test_yaml_is_read_by_the_core_schema() -> None:
    """`no`, times and dates are strings; keys are always strings."""
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
    ("text", "violation", "line"),
    [
        ("a: &x [1]\nb: *x", "Aliases", 2),
        ("a: !!python/name:os.system x", "Tags", 1),
        ("a: !include other.yaml", "Tags", 1),
        ("a: 1\nb: 2\na: 3", "'a' is used twice, first in line 1", 3),
        ("a: 1\n---\nb: 2", "more than one document", 2),
        ("\n".join(f"{' ' * depth}a:" for depth in range(100)), "nested deeper", 69),
        ("[" * 5000, "nested deeper", 1),
        ("[" + "1," * 200_001 + "]", "more than 50000 values", 1),
        ("a: {b: c", "not YAML", 2),
        ("? [a]\n: b", "key must be a string", 1),
        ("a: " + "9" * 5000, "too many digits", 1),
        ("x" * (2 * 1024 * 1024 + 1), "bytes", None),
        (b"a: 1\nb: \xff", "not UTF-8", 2),
    ],
)
def test_refused_yaml_is_reported_with_its_line(text: str, violation: str, line: int | None) -> None:
    """Aliases, tags, duplicate keys, deep nesting and long texts are refused with the line of the problem."""
    with pytest.raises(UnreadableText, match=violation) as caught:
        read_text(text)
    assert caught.value.line in (line, (line or 0) - 1)


@pytest.mark.parametrize(
    ("text", "violation"),
    [("{", "not JSON"), ('{"a": 1, "a": 2}', "twice"), ("[" * 100_000, "nested"), ("9" * 5000, "digits")],
)
def test_refused_json_is_reported(text: str, violation: str) -> None:
    """Invalid JSON, duplicate keys, deep nesting and long numbers are refused."""
    with pytest.raises(UnreadableText, match=violation):
        read_text(text, "json")


def test_pointers_have_lines() -> None:
    """A value has its own line; a missing value has the line of its nearest enclosing value."""
    text = read_text("templates:\n  - name: a\n    routes:\n      - name: x\n        when: y\n")
    assert text.line("/templates/0/routes/0/when") == 5
    assert text.line("/templates/0/routes/0/template") == 4
    assert text.line("/nothing") == 1


def test_document_contains_one_template_or_a_list() -> None:
    """Each template of a document is returned with its pointer."""
    one, other = {"name": "a"}, {"name": "b"}
    assert members(one) == [("", one)]
    assert members({"templates": [one, other]}) == [("/templates/0", one), ("/templates/1", other)]


@SLOW
@given(account=sample_accounts())
def test_sets_with_names_equal_templates_with_ids(account: SampleAccount) -> None:
    """A set with names has no problems and becomes the same templates as the documents with ids."""
    checked = check_set(named(account), outside(account))
    for each in checked:
        assert found_in(each.report) == set()
        assert each.content == TemplateContent.model_validate(account.documents[each.template_id])


@SLOW
@given(account=sample_accounts())
def test_canonical_document_is_equivalent(account: SampleAccount) -> None:
    """The canonical document is read as the same template, and is its own canonical form."""
    for document in named(account):
        template = FileTemplate.model_validate(document)
        written = canonical(template)
        assert FileTemplate.model_validate(written) == template
        assert canonical(FileTemplate.model_validate(written)) == written
        assert json.loads(json.dumps(written)) == written


def test_canonical_document_has_the_names_of_json() -> None:
    """Fields are written under the names by which they are read: `from`, not the name in Python."""
    window, hours = {"from": "10:00"}, {"from": "08:00", "to": "17:00"}
    content = {"name": "A", "outbound": {"window": window}, "inbound": {"hours": hours}}
    assert canonical(FileTemplate.model_validate(content)) == content


def test_canonical_document_has_the_order_of_the_model() -> None:
    """Fields have the model's order, with names at the place of ids; nodes keep the author's order."""
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


@pytest.mark.parametrize(
    "violation", VIOLATIONS, ids=[f"{index}-{violation.code}" for index, violation in enumerate(VIOLATIONS)]
)
def test_violation_in_a_set_is_reported_like_in_a_template(violation: Violation) -> None:
    """A violation in a set with names has the same pointer and code as in the document with ids."""
    account = make_account()
    names = names_of(account)
    violation.apply(account)
    names = {**{key: each["name"] for key, each in account.documents.items() if key not in names}, **names}
    expected = found_in(check_document(account.document, account.check_context())[1])
    got = found_in(check_set(named(account, names), outside(account, names))[0].report)
    place = {"/number_id": "/number"}
    assert {(place.get(p, p).replace("/template_id", "/template"), code) for p, code in expected} == {
        (place.get(p, p).replace("/template_id", "/template"), code) for p, code in got
    }


def test_problems_of_names_have_the_pointer_of_the_name() -> None:
    """Unknown names, names beside ids and names of a wrong type are reported at the name field."""
    desk = {
        "name": "Desk",
        "kind": "orchestrator",
        "number": 5,
        "prompt": "You answer.",
        "routes": [
            {"name": "a", "template": "Biling", "when": "money"},
            {"name": "b", "template": "Billing", "template_id": ORCHESTRATOR_ID, "when": "parcels"},
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


def test_rules_that_need_unknown_account_data_are_skipped() -> None:
    """Without account data, unknown ids and numbers and unreached agents are not reported."""
    agent = {"name": "Billing", "status": "active", "description": "Money.", "prompt": "You are Ada."}
    desk = {
        "name": "Desk", "kind": "orchestrator", "status": "active", "number": E164, "prompt": "You answer.",
        "routes": [{"name": "a", "template_id": ORCHESTRATOR_ID, "when": "money"}],
    }  # fmt: skip
    assert {code for _, code in found_in(check_set([agent])[0].report)} == {"voice_default"}
    assert {code for _, code in found_in(check_set([desk])[0].report)} == {"voice_default"}
    known = SetContext(templates={}, numbers={}, known_numbers={})
    assert {code for _, code in found_in(check_set([agent], known)[0].report)} == {
        "voice_default",
        "agent_unreached",
    }
    assert {("/routes/0/template_id", "target_missing"), ("/number", "number_unknown")} <= found_in(
        check_set([desk], known)[0].report
    )


def test_documents_of_the_api_refer_to_each_other_by_id() -> None:
    """A route may use the id that another document of the set contains."""
    agent = {"id": ORCHESTRATOR_ID, "revision": 3, "name": "Billing", "prompt": "You are Ada."}
    desk = {
        "id": NUMBER_ID,
        "name": "Desk",
        "kind": "orchestrator",
        "routes": [{"name": "a", "template_id": ORCHESTRATOR_ID}],
    }
    first, second = check_set([desk, agent])
    assert first.content is not None
    assert first.content.routes[0].template_id == second.template_id


def test_long_keys_are_refused() -> None:
    """Nested keys, of which each value keeps a pointer, may together have a limited length."""
    text = "".join(f"{' ' * level}{'k' * 300}{level}:\n" for level in range(7)) + "        a: 1"
    with pytest.raises(UnreadableText, match="more than 2000 characters") as refused:
        read_text(text)
    assert refused.value.line == 7
