"""The mistakes that authors make, as a table: the pointer, and the words of message and remedy that help."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from handlers.registry import HANDLERS
from templates.check import CheckContext, KnownNumber, check_document
from templates.model import TemplateContent
from tests.templates.sample_accounts import PROVIDERS

TARGET = "0190a000-0000-7000-8000-000000000001"
NUMBER = "0190a000-0000-7000-8000-0000000000a1"
BILLING = TemplateContent.model_validate(
    {
        "name": "Billing",
        "description": "Answers questions about invoices.",
        "status": "active",
        "prompt": "You are billing.",
        "variables": [
            {"name": "customer", "description": "The customer's number", "source": "call", "required": True}
        ],
    }
)
DESK: dict[str, Any] = {
    "name": "Desk",
    "kind": "orchestrator",
    "status": "active",
    "number_id": NUMBER,
    "prompt": "You answer the telephone of Acme.",
    "tts": {"voice_id": "JBFqnCBsd6RMkjVDRZzb"},
    "greeting": {"text": "Hello, this is Acme."},
    "routes": [{"name": "billing", "template_id": TARGET, "when": "The caller asks about an invoice."}],
    "functions": [
        {"type": "builtin", "name": "end_call"},
        {
            "type": "http",
            "name": "find_order",
            "description": "Looks up an order.",
            "url": "https://api.example.com/orders",
        },
    ],
}
FLOW: dict[str, Any] = {
    "initial_node": "ask",
    "nodes": {
        "ask": {
            "role_message": "You are Acme.",
            "task_messages": [{"content": "Ask what the caller needs."}],
            "functions": [
                {
                    "name": "go_on",
                    "transition_only": True,
                    "description": "The caller has said it.",
                    "transition_to": "tell",
                }
            ],
        },
        "tell": {"task_messages": [{"content": "Tell it."}]},
    },
}
HTTP = ("functions", 1)

MISTAKES: list[tuple[str, tuple[str | int, ...], Any, str, str, str]] = [
    # name, place, value, pointer, words of the message, words of the remedy
    (
        "a misspelt field",
        ("greting",),
        {"text": "Hi"},
        "/greting",
        "Did you mean 'greeting'?",
        "correct its name",
    ),
    ("a misspelt inner field", ("greeting", "txt"), "Hi", "/greeting/txt", "Did you mean 'text'?", "correct"),
    (
        "type in a greeting",
        ("greeting", "type"),
        "say",
        "/greeting/type",
        "Known here: interruptible, text",
        "",
    ),
    ("a field of another part", ("tts", "greeting"), "x", "/tts/greeting", "Known here: ", "Remove"),
    ("a list for an object", ("greeting",), [], "/greeting", "must be an object", "the type"),
    ("a number for a text", ("prompt",), 5, "/prompt", "must be a string", "type that the message names"),
    ("a text for a flag", ("turns",), {"barge_in": "yes"}, "/turns/barge_in", "true or false", "type"),
    ("an unknown kind", ("kind",), "desk", "/kind", "'agent' or 'orchestrator'", "one of the values"),
    ("no name", ("name",), " ", "/name", "no name", "Set `name`"),
    ("a NUL in the name", ("name",), "De\0sk", "/name", "", "cannot be stored"),
    ("a name that is too long", ("name",), "x" * 121, "/name", "121 characters", "120"),
    ("no prompt", ("prompt",), None, "/prompt", "neither a prompt nor a flow", "Write a `prompt`"),
    ("prompt and flow", ("flow",), FLOW, "/flow", "both a prompt and a flow", "Keep either"),
    ("an empty prompt", ("prompt",), " ", "/prompt", "is empty", "who the agent is"),
    ("a language that is none", ("language",), "english", "/language", "not a BCP 47", "`en-US`"),
    ("the region UK", ("language",), "en-UK", "/language", "region UK", "`GB`"),
    ("an unknown language", ("language",), "xx-YY", "/language", "language xx", "ISO 639"),
    (
        "English prompts for a Spanish agent",
        ("language",),
        "es-MX",
        "/idle",
        "English default",
        "idle.prompts",
    ),
    (
        "a number of nobody",
        ("number_id",),
        TARGET,
        "/number_id",
        "no number with this id",
        "GET /api/v1/numbers",
    ),
    ("no number", ("number_id",), None, "/number_id", "no caller can reach it", "Set `number_id`"),
    ("an undeclared variable", ("prompt",), "Hi {{ nme }}", "/prompt", "'{{ nme }}'", "Declare the variable"),
    (
        "single braces",
        ("greeting", "text"),
        "Hi {{nme-x}}",
        "/greeting/text",
        "not a placeholder",
        "{{ name }}",
    ),
    (
        "a placeholder where none is replaced",
        ("routes", 0, "when"),
        "About {{ topic }}",
        "/routes/0/when",
        "not replaced",
        "without",
    ),
    ("a variable named 1st", ("variables",), [{"name": "1st"}], "/variables/0/name", "not a valid", "digit"),
    (
        "an unused variable",
        ("variables",),
        [{"name": "x", "source": "call"}],
        "/variables/0/name",
        "not used",
        "",
    ),
    (
        "a variable that nothing sets",
        ("variables",),
        [{"name": "x", "source": "call"}],
        "/variables/0/source",
        "no function sets it",
        "`keep`",
    ),
    (
        "a default of another type",
        ("variables",),
        [{"name": "x", "type": "integer", "default": "many"}],
        "/variables/0/default",
        "must be an integer",
        "of the variable's type",
    ),
    (
        "required from a payload that no inbound call has",
        ("variables",),
        [{"name": "x", "required": True}],
        "/variables/0/required",
        "no payload",
        "optional",
    ),
    ("an empty greeting", ("greeting", "text"), " ", "/greeting/text", "is empty", "null"),
    ("a long greeting", ("greeting", "text"), "Hello. " * 60, "/greeting/text", "characters", "300"),
    ("Markdown in a greeting", ("greeting", "text"), "Hi **you**", "/greeting/text", "Markdown", "words"),
    (
        "a URL in a goodbye",
        ("idle",),
        {"goodbye": "See www.acme.com"},
        "/idle/goodbye",
        "web address",
        "words",
    ),
    (
        "an emoji in an announcement",
        ("routes", 0, "announce"),
        "Bye 👋",
        "/routes/0/announce",
        "emoji",
        "words",
    ),
    ("silence of one ms", ("turns",), {"end_silence_ms": 1}, "/turns/end_silence_ms", "between 100", "range"),
    ("an unknown provider", ("tts", "provider"), "acme", "/tts/provider", "acme", "one of the providers"),
    ("a voice id with spaces", ("tts", "voice_id"), "my voice", "/tts/voice_id", "voice", ""),
    (
        "an unknown setting",
        ("llm",),
        {"settings": {"temprature": 1}},
        "/llm/settings/temprature",
        "temp",
        "temp",
    ),
    (
        "a setting out of range",
        ("llm",),
        {"settings": {"temperature": 9}},
        "/llm/settings/temperature",
        "",
        "range",
    ),
    ("an unknown function", ("functions", 0, "name"), "hangup", "/functions/0/name", "end_call", "built-in"),
    (
        "a function named twice",
        ("functions", 1, "name"),
        "end_call",
        "/functions/1/name",
        "built-in",
        "Rename",
    ),
    (
        "no description of a function",
        (*HTTP, "description"),
        "",
        "/functions/1/description",
        "no description",
        "when",
    ),
    (
        "a function that is named and not declared",
        ("prompt",),
        "Call escalate_to_person if they are angry.",
        "/prompt",
        "'escalate_to_person', which is not offered",
        '{"type": "builtin", "name": "escalate_to_person"}',
    ),
    (
        "send_dtmf, which is not declared",
        ("prompt",),
        "Call send_dtmf for a person.",
        "/prompt",
        "'send_dtmf', which is not offered",
        "",
    ),
    ("no URL", (*HTTP, "url"), "", "/functions/1/url", "no URL", "https address"),
    ("half a URL", (*HTTP, "url"), "api.example.com", "/functions/1/url", "not a complete", "https://"),
    (
        "a private address",
        (*HTTP, "url"),
        "https://10.0.0.1/x",
        "/functions/1/url",
        "not a public",
        "VOICEBOT_HTTP",
    ),
    ("http", (*HTTP, "url"), "http://api.example.com", "/functions/1/url", "not encrypted", "Use https"),
    (
        "a key in a URL",
        (*HTTP, "url"),
        "https://a.example.com/?api_key=1",
        "/functions/1/url",
        "secret",
        "secret_",
    ),
    (
        "a key in a header",
        (*HTTP, "headers"),
        {"Authorization": "Bearer x"},
        "/functions/1/headers/Authorization",
        "",
        "secret_headers",
    ),
    (
        "parameters without an object",
        (*HTTP, "parameters"),
        {"type": "array"},
        "/functions/1/parameters/type",
        "'object'",
        "properties",
    ),
    (
        "keep into no variable",
        (*HTTP, "keep"),
        {"x": "/x"},
        "/functions/1/keep/x",
        "not declared",
        "source `call`",
    ),
    ("no route", ("routes",), [], "/routes", "no routes", "Add a route"),
    ("a route named back", ("routes", 0, "name"), "back", "/routes/0/name", "reserved", "Rename"),
    (
        "a route to nowhere",
        ("routes", 0, "template_id"),
        NUMBER,
        "/routes/0/template_id",
        "billing",
        "id of a template",
    ),
    ("no `when`", ("routes", 0, "when"), "", "/routes/0/when", "cannot tell when", "in which case"),
    (
        "a required variable with context none",
        ("routes", 0, "context"),
        "none",
        "/routes/0/context",
        "'customer'",
        "context",
    ),
    ("no hops", ("limits",), {"max_hops": 0}, "/limits/max_hops", "is 0", "Raise"),
    (
        "a destination without a plus",
        ("destinations",),
        [{"name": "x", "number": "0049"}],
        "/destinations/0/number",
        "E.164",
        "`+`",
    ),
    (
        "a first node that is none",
        ("flow",),
        {**FLOW, "initial_node": "start"},
        "/flow/initial_node",
        "no node 'start'",
        "name of one",
    ),
]


def with_value(place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The sample with one value changed; a flow takes the place of the prompt, except beside it."""
    document = copy.deepcopy(DESK)
    if place == ("flow",) and value is not FLOW:
        document["prompt"] = None
    part: Any = document
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    return document


CONTEXT = CheckContext(
    templates={TARGET: BILLING},
    numbers={NUMBER: KnownNumber(active=True, carrier="twilio")},
    builtins=frozenset(HANDLERS),
    providers=PROVIDERS,
)


def test_the_sample_is_correct() -> None:
    """Without a mistake the check reports nothing."""
    _, report = check_document(DESK, CONTEXT)
    assert [*report.errors, *report.warnings] == []


@pytest.mark.parametrize(
    ("place", "value", "pointer", "message", "remedy"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_a_mistake_is_reported_where_it_is_with_what_to_do(
    place: tuple[str | int, ...], value: Any, pointer: str, message: str, remedy: str
) -> None:
    """Each mistake has a problem at its place, whose message says what is wrong and whose remedy helps."""
    _, report = check_document(with_value(place, value), CONTEXT)
    found = [problem for problem in report.problems() if problem.pointer == pointer]
    assert found, sorted((problem.pointer, problem.code) for problem in report.problems())
    assert any(message in each.message and remedy in each.remedy for each in found), found
    assert all(each.message and each.remedy for each in found)


def test_there_are_as_many_mistakes_as_were_made() -> None:
    """The table has the 58 mistakes of the first users, each under its own name."""
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 58
