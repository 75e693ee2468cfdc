"""Violations of each rule: a change of a valid sample account, and the pointer that must be reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from templates.check import CarrierRules, KnownNumber
from templates.problem import pointer
from tests.templates.sample_accounts import (
    INACTIVE_NUMBER_ID,
    NUMBER,
    NUMBER_ID,
    ORCHESTRATOR_ID,
    Document,
    SampleAccount,
)

ApplyViolation = Callable[[SampleAccount], str]


@dataclass(frozen=True)
class Violation:
    """A way to break a rule.

    Attributes:
        code: of the rule.
        apply: changes the account and returns the pointer that must be reported.
        also: other rules that the change violates as well.
    """

    code: str
    apply: ApplyViolation
    also: frozenset[str]


VIOLATIONS: list[Violation] = []


def violates(code: str, *also: str) -> Callable[[ApplyViolation], ApplyViolation]:
    """Add a way to break a rule."""

    def add(apply: ApplyViolation) -> ApplyViolation:
        VIOLATIONS.append(Violation(code, apply, frozenset(also)))
        return apply

    return add


def put(
    code: str, *path: str | int, value: Any, at: tuple[str | int, ...] | None = None, also: str = ""
) -> None:
    """A rule of the orchestrator that is broken by one value."""

    def apply(account: SampleAccount) -> str:
        place = account.document
        for part in path[:-1]:
            place = place[part]  # type: ignore[index]
        place[path[-1]] = value  # type: ignore[index]
        return pointer(*(path if at is None else at))

    violates(code, *also.split())(apply)


def limit_carrier(account: SampleAccount, **rules: Any) -> None:
    """The carrier of the orchestrator's number cannot do everything."""
    limited = KnownNumber(active=True, carrier="exotel", rules=CarrierRules(**rules))
    account.numbers[NUMBER_ID] = limited


def http(account: SampleAccount) -> tuple[Document, tuple[str | int, ...]]:
    """An HTTP function of the orchestrator, and its path."""
    found = [
        (index, each) for index, each in enumerate(account.document["functions"]) if each["type"] == "http"
    ]
    index, function = account.chooser.choose(found)
    return function, ("functions", index)


def put_http(
    code: str, *path: str | int, value: Any, at: tuple[str | int, ...] | None = None, also: str = ""
) -> None:
    """A rule of HTTP functions that is broken by one value."""

    def apply(account: SampleAccount) -> str:
        place, where = http(account)
        for part in path[:-1]:
            place = place[part]  # type: ignore[index]
        place[path[-1]] = value  # type: ignore[index]
        return pointer(*where, *(path if at is None else at))

    violates(code, *also.split())(apply)


def route(account: SampleAccount) -> tuple[Document, tuple[str | int, ...]]:
    """A route of the orchestrator, and its path."""
    index, found = account.chooser.choose(list(enumerate(account.document["routes"])))
    return found, ("routes", index)


def node(account: SampleAccount) -> tuple[Document, tuple[str | int, ...]]:
    """A node of the flow, and its path."""
    name = account.chooser.choose(list(account.document["flow"]["nodes"]))
    return account.document["flow"]["nodes"][name], ("flow", "nodes", name)


def function_at_node(account: SampleAccount, function: Document) -> tuple[str | int, ...]:
    """Add a function to a node and return its path."""
    found, where = node(account)
    found["functions"].append(function)
    return (*where, "functions", len(found["functions"]) - 1)


# The shape of the document

put("unknown_field", "lanugage", value="en")
put("unknown_field", "greeting", "txt", value="Hello")
put("wrong_type", "language", value=5)
put("wrong_type", "limits", "max_hops", value="6")
put("wrong_type", "variables", 1, value="order", also="placeholder_undeclared")
put("wrong_type", "greeting", "interruptible", value=1)
put("invalid_value", "status", value="live")
put("invalid_value", "turns", "strategy", value="vad")


@violates("missing_field")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    del found["name"]
    return pointer(*where, "name")


@violates("missing_field")
def _(account: SampleAccount) -> str:
    del account.document["name"]
    return "/name"


@violates("unknown_field")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["tasks"] = []
    return pointer(*where, "tasks")


put("unstorable", "greeting", "text", value="Hello\0")
put("unstorable", "llm", "settings", "temperature", value=float("nan"))
put("unstorable", "tts", "settings", "note", value="\ud800")
put("unstorable", "tts", "settings", "a\0b", value=1)


# Its size


@violates("too_large")
def _(account: SampleAccount) -> str:
    deep: Document = {}
    account.document["tts"]["settings"]["deep"] = deep
    for _ in range(3000):
        deep["in"] = deep = {}
    return pointer("tts", "settings", "deep", *["in"] * 24)


put("too_large", "prompt", value="x" * 100_001)
put("too_large", "idle", "goodbye", value="x" * 4001)
put("too_large", "routes", value=[{}] * 101)
put("too_large", "variables", 0, "default", value=[0] * 501)
put("too_large", "tts", "settings", "x" * 201, value=1, at=("tts", "settings"))
put("too_large", "description", value=["x" * 3000] * 100, at=())
put_http("too_large", "url", value="https://api.example.com/" + "{{" * 1024)
put_http("too_large", "parameters", "properties", "number", "pattern", value="x" * 501)
put_http(
    "too_large",
    "parameters",
    "properties",
    value={f"p{n}": {"description": "x", "pattern": f"{n}"} for n in range(51)},
    at=("parameters", "properties", "p0", "pattern"),
)


# What the template is

put("name_missing", "name", value="  ")
put("name_too_long", "name", value="n" * 121)
put("conversation_missing", "flow", value=None, at=("prompt",))
put("conversation_ambiguous", "prompt", value="You are an agent.", at=("flow",))
put("language_invalid", "language", value="english")
put("number_unknown", "number_id", value="0190a000-0000-7000-8000-00000000dead")
put("number_inactive", "number_id", value=INACTIVE_NUMBER_ID)
put("number_missing", "number_id", value=None)


@violates("description_missing")
def _(account: SampleAccount) -> str:
    account.agent()["description"] = " "
    return "/description"


@violates("prompt_empty", "variable_unused")
def _(account: SampleAccount) -> str:
    account.document.update(flow=None, prompt="\n")
    return "/prompt"


@violates("prompt_long", "variable_unused")
def _(account: SampleAccount) -> str:
    account.document.update(flow=None, prompt="Be kind. " * 4000)
    return "/prompt"


@violates("language_mismatch")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    account.documents[found["template_id"]]["language"] = "fr-FR"
    return pointer(*where, "template_id")


@violates("idle_language")
def _(account: SampleAccount) -> str:
    account.agent()["language"] = "de-DE"
    return "/idle"


# Variables

put("variable_name_invalid", "variables", 0, "name", value="customer name", also="placeholder_undeclared")
put(
    "variable_duplicate",
    "variables",
    1,
    "name",
    value="customer",
    also="placeholder_undeclared placeholder_path",
)


@violates("variable_required_default", "payload_on_inbound")
def _(account: SampleAccount) -> str:
    account.document["variables"][-1]["required"] = True
    return pointer("variables", len(account.document["variables"]) - 1, "required")


@violates("variable_default_type")
def _(account: SampleAccount) -> str:
    account.document["variables"][-1]["default"] = "many"
    return pointer("variables", len(account.document["variables"]) - 1, "default")


@violates("variable_unused", "variable_never_set")
def _(account: SampleAccount) -> str:
    account.document["variables"].append({"name": "spare", "source": "call"})
    return pointer("variables", len(account.document["variables"]) - 1, "name")


@violates("variable_unprovided", "variable_unused")
def _(account: SampleAccount) -> str:
    account.document["variables"].append({"name": "spare", "source": "call", "required": True})
    return pointer("variables", len(account.document["variables"]) - 1, "required")


@violates("payload_on_inbound")
def _(account: SampleAccount) -> str:
    account.document["variables"].append({"name": "spare", "required": True})
    return pointer("variables", len(account.document["variables"]) - 1, "required")


put("placeholder_undeclared", "greeting", "text", value="Hello {{ nobody }}.")
put("placeholder_undeclared", "idle", "prompts", 1, value="Hello {{ nobody }}.")
put("placeholder_undeclared", "idle", "goodbye", value="Bye {{ nobody }}.")
put("placeholder_path", "greeting", "text", value="Hello {{ customer.name }}.")
put("placeholder_malformed", "greeting", "text", value="Hello {{ customer-name }}.")
put("placeholder_malformed", "greeting", "text", value="Hello {customer}.")
put_http("placeholder_undeclared", "query", "q", value="{{ nobody }}")
put_http("placeholder_undeclared", "headers", "X-Who", value="{{ nobody }}")
put_http("placeholder_undeclared", "secret_headers", "X-Key", value="{{ nobody }}")
put_http("placeholder_undeclared", "body", "list", 0, value="{{ nobody }}", also="variable_unused")
put_http("placeholder_undeclared", "wait_text", value="{{ nobody }}")


@violates("placeholder_undeclared")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["announce"] = "Wait, {{ nobody }}."
    return pointer(*where, "announce")


@violates("placeholder_undeclared")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["task_messages"].append({"role": "developer", "content": "Ask {{ nobody }}."})
    return pointer(*where, "task_messages", len(found["task_messages"]) - 1, "content")


@violates("placeholder_undeclared")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["role_message"] = "You are {{ nobody }}."
    return pointer(*where, "role_message")


@violates("placeholder_not_rendered")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["when"] += " {{ customer }}"
    return pointer(*where, "when")


# What is spoken

put("greeting_empty", "greeting", "text", value=" ")
put("greeting_too_long", "greeting", "text", value="w" * 1001)
put("greeting_long", "greeting", "text", value="w" * 301)
put("idle_prompt_empty", "idle", "prompts", 1, value="")
put("filler_empty", "fillers", value=["One moment.", " "], at=("fillers", 1))
put("idle_prompts_many", "idle", "prompts", value=["Hello?"] * 6)
put("idle_goodbye_empty", "idle", "goodbye", value="")
put("out_of_range", "idle", "after_ms", value=10)
put("out_of_range", "limits", "max_duration_ms", value=1)
put("out_of_range", "limits", "max_hops", value=51)
put("out_of_range", "limits", "silence_ms", value=999)
put("out_of_range", "turns", "end_silence_ms", value=99)
for broken, values in {
    ("out_of_range", "max_attempts"): {"max_attempts": 0},
    ("out_of_range", "retry", "busy"): {"retry": {"busy": 1}},
    ("out_of_range", "rate_limit", "calls"): {"rate_limit": {"calls": 0}},
    ("time_of_day_invalid", "window", "from"): {"window": {"from": "9 am"}},
    ("time_of_day_invalid", "window", "to"): {"window": {"to": "25:00"}},
    ("window_empty", "window", "to"): {"window": {"to": "08:00"}},
    ("window_empty", "window", "days"): {"window": {"days": []}},
    ("voicemail_message_missing", "voicemail", "message"): {"voicemail": {"action": "message"}},
    ("output_field_invalid", "output", "2nd"): {"output": {"2nd": {}}},
    ("output_field_invalid", "output", "day", "enum"): {"output": {"day": {"type": "date", "enum": ["x"]}}},
    ("output_field_invalid", "output"): {"output": {f"f{index}": {} for index in range(31)}},
    ("url_missing", "precheck", "url"): {"precheck": {}},
    ("url_private_address", "precheck", "url"): {"precheck": {"url": "https://10.0.0.1/may-call"}},
    ("url_private_address", "webhook_url"): {"webhook_url": "https://10.0.0.1/hook"},
}.items():
    put(broken[0], "outbound", value=values, at=("outbound", *broken[1:]))
put_http("out_of_range", "timeout_ms", value=600_000)
for place, policy in {
    ("hours",): {"hours": {"from": "17:00", "to": "17:00"}},
    ("hours", "from"): {"hours": {"from": "9 am"}},
    ("hours", "days"): {"hours": {"days": []}},
    ("hours", "holidays", 0): {"hours": {"holidays": ["Christmas"]}},
    ("blocked", 0): {"blocked": ["0049"]},
    ("per_caller", "calls"): {"per_caller": {"calls": 0, "per_ms": 1000}},
    ("max_concurrent",): {"max_concurrent": 1001},
    ("refusal",): {"refusal": {"action": "say"}},
    ("refusal", "text"): {"refusal": {"action": "say", "text": "w" * 1001}},
    ("refusals", "caller_limit"): {"refusals": {"caller_limit": {"action": "forward"}}},
    ("refusals", "blocked"): {"refusals": {"blocked": {"action": "callback"}}},
}.items():
    put("invalid_value", "inbound", value=policy, at=("inbound", *place))


@violates("busy_tone_impossible")
def _(account: SampleAccount) -> str:
    account.document["inbound"] = {"refusal": {"action": "busy"}}
    limit_carrier(account, has_busy_tone=False)
    return "/inbound/refusal/action"


@violates("forwards_to_itself")
def _(account: SampleAccount) -> str:
    account.document["inbound"] = {"refusal": {"action": "forward", "number": NUMBER}}
    return "/inbound/refusal/number"


@violates("call_back_impossible")
def _(account: SampleAccount) -> str:
    account.document["inbound"] = {"refusals": {"outside_hours": {"action": "callback"}}}
    account.numbers[NUMBER_ID] = replace(account.numbers[NUMBER_ID], can_dial=False)
    return "/inbound/refusals/outside_hours/action"


@violates("payload_on_call_back")
def _(account: SampleAccount) -> str:
    account.document["inbound"] = {"refusals": {"outside_hours": {"action": "callback"}}}
    account.document["variables"].append({"name": "mood", "source": "payload", "required": True})
    return pointer("variables", len(account.document["variables"]) - 1, "required")


@violates("payload_on_call_back")
def _(account: SampleAccount) -> str:
    account.numbers[NUMBER_ID] = replace(account.numbers[NUMBER_ID], calls_back=True)
    account.document["variables"].append({"name": "mood", "source": "payload", "required": True})
    return pointer("variables", len(account.document["variables"]) - 1, "required")


@violates("reason_never_applies")
def _(account: SampleAccount) -> str:
    account.document["inbound"] = {"refusals": {"number_busy": {"action": "reject"}}}
    return "/inbound/refusals/number_busy"


@violates("inbound_unused")
def _(account: SampleAccount) -> str:
    account.agent()["inbound"] = {"accepting": False}
    return "/inbound"


@violates("caller_value_in_instructions", "variable_never_set")
def _(account: SampleAccount) -> str:
    account.document["variables"].append({"name": "mood", "source": "call"})
    found, where = node(account)
    found["task_messages"] = [{"role": "developer", "content": "The caller is {{ mood }}."}]
    return pointer(*where, "task_messages", 0, "content")


put("min_words_unused", "turns", value={"barge_in": False, "min_words": 2}, at=("turns", "min_words"))
put("voice_missing", "tts", "voice_id", value="")
put("voice_default", "tts", value={}, at=("tts", "voice_id"))
put("voice_invalid", "tts", "voice_id", value="../../v1/user")
put("voice_invalid", "tts", "voice_id", value="a" * 65)
put(
    "voice_invalid",
    "tts",
    value={"provider": "deepgram", "voice_id": "21m00Tcm4TlvDq8ikWAM"},
    at=("tts", "voice_id"),
)
put("model_invalid", "stt", "model", value="nova-3&callback=https://example.com")
put("model_invalid", "llm", "model", value="")
put(
    "model_unused",
    "tts",
    value={"provider": "deepgram", "voice_id": "aura-2-thalia-en", "model": "aura-2"},
    at=("tts", "model"),
)
put("setting_unknown", "llm", "settings", "temprature", value=9)
put("setting_unknown", "llm", "settings", "extra_headers", value={"Authorization": "Bearer x"})
put("setting_unknown", "llm", "settings", "n", value=100)
put(
    "setting_unknown",
    "stt",
    value={"settings": {"callback": "https://example.com"}},
    at=("stt", "settings", "callback"),
)
put("setting_invalid", "llm", "settings", "temperature", value=9)
put("setting_invalid", "llm", "settings", "temperature", value="0.2")
put("setting_invalid", "llm", "settings", "reasoning_effort", value="much")
put("setting_invalid", "tts", "settings", "speed", value=0.1)
put(
    "setting_invalid",
    "stt",
    value={"settings": {"keyterm": ["Acme", 5]}},
    at=("stt", "settings", "keyterm", 1),
)
put("provider_unconfigured", "llm", "provider", value="unset")
put(
    "provider_unknown",
    "llm",
    "backup",
    value=[{"provider": "nobody"}],
    at=("llm", "backup", 0, "provider"),
)
put(
    "voice_invalid",
    "tts",
    "backup",
    value=[{"provider": "deepgram", "voice_id": "21m00Tcm4TlvDq8ikWAM"}],
    at=("tts", "backup", 0, "voice_id"),
)
put(
    "setting_unknown",
    "stt",
    "backup",
    value=[{"provider": "elevenlabs", "settings": {"callback": "https://example.com"}}],
    at=("stt", "backup", 0, "settings", "callback"),
)
put(
    "backup_duplicate",
    "stt",
    "backup",
    value=[{"provider": "elevenlabs"}, {"provider": "elevenlabs"}],
    at=("stt", "backup", 1, "provider"),
)
put(
    "backup_same_provider",
    "llm",
    "backup",
    value=[{"provider": "openai", "model": "gpt-4.1-nano"}],
    at=("llm", "backup", 0, "provider"),
)
put("provider_unknown", "tts", "provider", value="cartesia")
put("provider_unknown", "llm", "provider", value="nobody")

# Functions

put("function_unknown", "functions", 1, "name", value="send_fax", also="destinations_unused")
put("function_duplicate", "functions", 1, "name", value="end_call", also="destinations_unused")
put("destinations_missing", "destinations", value=[])


@violates("not_possible_at_carrier")
def _(account: SampleAccount) -> str:
    limit_carrier(account, has_attended_transfers=False)
    account.document["destinations"][0]["mode"] = "attended"
    return "/destinations/0/mode"


@violates("not_possible_at_carrier")
def _(account: SampleAccount) -> str:
    limit_carrier(account, missing_to_transfer=("EXOTEL_FLOW_ID",))
    return "/destinations"


@violates("not_possible_at_carrier")
def _(account: SampleAccount) -> str:
    """An agent to which the orchestrator of the number leads."""
    limit_carrier(account, has_attended_transfers=False)
    agent = account.agent()
    agent["functions"].append({"type": "builtin", "name": "transfer_to_number"})
    agent["destinations"] = [{"name": "office", "number": "+14155550123", "mode": "attended"}]
    return "/destinations/0/mode"


put("destination_name_invalid", "destinations", 0, "name", value="the office")
put("destination_number_invalid", "destinations", 0, "number", value="0415 555 0123")
put_http("function_undescribed", "description", value="")


@violates("function_name_invalid")
def _(account: SampleAccount) -> str:
    account.document["functions"].append(
        {"type": "http", "name": "fünf", "description": "Unlike the others", "url": "https://example.com"}
    )
    return pointer("functions", len(account.document["functions"]) - 1, "name")


@violates("function_name_reserved")
def _(account: SampleAccount) -> str:
    account.document["functions"].append(
        {
            "type": "http",
            "name": "park_call",
            "description": "Unlike the others",
            "url": "https://example.com",
        }
    )
    return pointer("functions", len(account.document["functions"]) - 1, "name")


@violates("functions_alike")
def _(account: SampleAccount) -> str:
    twin = {**http(account)[0], "name": "twin"}
    account.document["functions"].append(twin)
    return pointer("functions", len(account.document["functions"]) - 1, "description")


@violates("route_function_automatic")
def _(account: SampleAccount) -> str:
    account.document["functions"].append({"type": "builtin", "name": "route_to_agent"})
    return pointer("functions", len(account.document["functions"]) - 1, "name")


@violates("destinations_unused")
def _(account: SampleAccount) -> str:
    del account.document["functions"][1]
    return "/destinations"


@violates("destination_duplicate")
def _(account: SampleAccount) -> str:
    account.document["destinations"].append({"name": "office", "number": "+14155550199"})
    return "/destinations/1/name"


# HTTP functions

put_http("url_missing", "url", value="")
put_http("url_invalid", "url", value="api.example.com/orders")
put_http("url_invalid", "url", value="ftp://example.com/x")
put_http("url_invalid", "url", value="https://example.com:port/")
put_http("url_insecure", "url", value="http://example.com/")
put_http("url_credentials", "url", value="https://me:pass@example.com/")
put_http("url_host_templated", "url", value="https://{{ customer }}.example.com/")
put_http("url_private_address", "url", value="https://10.1.2.3/")
put_http("url_private_address", "url", value="http://169.254.169.254/latest/meta-data")
put_http("url_private_address", "url", value="https://[::ffff:127.0.0.1]/")
put_http("url_private_address", "url", value="https://2130706433/")
put_http("url_private_address", "url", value="https://localhost:8000/")
put_http("url_private_address", "url", value="https://metadata.google.internal/")
put_http("parameters_invalid", "parameters", "properties", "number", "type", value="txt")
put_http("parameters_not_object", "parameters", "type", value="array")
put_http("parameters_remote", "parameters", "$ref", value="https://example.com/schema.json")
put_http("parameters_remote", "parameters", "properties", "number", "$dynamicRef", value="#here")
put_http("parameters_reference_unknown", "parameters", "properties", "number", "$ref", value="#/$defs/none")
put_http("parameters_endless", "parameters", "properties", "number", "$ref", value="#/properties/number")
put_http("parameters_pattern_unsupported", "parameters", "properties", "number", "pattern", value="(?=a)b")
put_http(
    "parameters_names_unsupported", "parameters", "patternProperties", value={"^x": {"description": "x"}}
)
put_http("parameters_keyword_unsupported", "parameters", "unevaluatedProperties", value=False)
put_http(
    "parameters_pattern_unsupported", "parameters", "properties", "number", "pattern", value=r"(\pL{100}){4}"
)


@violates("parameters_deep")
def _(account: SampleAccount) -> str:
    function, where = http(account)
    links = {f"l{n}": {"$ref": f"#/$defs/l{n + 1}"} for n in range(30)}
    function["parameters"]["$defs"] = {**links, "l30": {"type": "string"}}
    function["parameters"]["properties"]["number"] = {"$ref": "#/$defs/l0", "description": "x"}
    return pointer(*where, "parameters")


put_http("parameter_name_invalid", "parameters", "properties", "the number", value={"description": "x"})
put_http("parameter_undescribed", "parameters", "properties", "size", value={"type": "string"})
put_http("parameter_shadows_variable", "parameters", "properties", "customer", value={"description": "x"})
put_http(
    "parameter_undefined",
    "parameters",
    "required",
    value=["number", "size"],
    at=("parameters", "required", 1),
)
put_http("keep_variable_undeclared", "keep", "nobody", value="/x")
put_http("keep_variable_source", "keep", "customer", value="/x")
put_http("header_invalid", "headers", "X Y", value="1")
put_http("header_invalid", "headers", "X-Y", value="1\r\nHost: evil")
put_http("header_reserved", "headers", "Host", value="example.com")
put_http("header_duplicate", "headers", "authorization", value="x")
put_http("header_secret", "headers", "X-Api-Key", value="x")
put_http("header_secret", "headers", "X-Any", value="Bearer abcdef")
put_http("body_unsent", "method", value="GET", at=("body",))
put_http("wait_text_empty", "wait_text", value=" ")


@violates("keep_pointer_invalid")
def _(account: SampleAccount) -> str:
    function, where = http(account)
    name = next(iter(function["keep"]))
    function["keep"][name] = "status"
    return pointer(*where, "keep", name)


# The flow

put("flow_empty", "flow", "nodes", value={}, also="variable_unused initial_node_unknown")
put("initial_node_unknown", "flow", "initial_node", value="nowhere")


@violates("node_name_empty", "node_unreachable")
def _(account: SampleAccount) -> str:
    account.document["flow"]["nodes"][" "] = {"task_messages": [{"role": "developer", "content": "x"}]}
    return pointer("flow", "nodes", " ")


@violates("node_unreachable")
def _(account: SampleAccount) -> str:
    account.document["flow"]["nodes"]["island"] = {
        "task_messages": [{"role": "developer", "content": "x"}],
        "post_actions": [{"type": "end_conversation"}],
    }
    return pointer("flow", "nodes", "island")


@violates("node_silent", "role_message_missing")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["task_messages"] = []
    found["role_message"] = None
    return pointer(*where, "task_messages")


@violates("role_message_missing")
def _(account: SampleAccount) -> str:
    flow = account.document["flow"]
    del flow["nodes"][flow["initial_node"]]["role_message"]
    return pointer("flow", "nodes", flow["initial_node"], "role_message")


@violates("message_role_invalid")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["task_messages"][0]["role"] = "tool"
    return pointer(*where, "task_messages", 0, "role")


@violates("transition_unknown_node")
def _(account: SampleAccount) -> str:
    way = {"name": "leave", "transition_only": True, "description": "x", "transition_to": "nowhere"}
    return pointer(*function_at_node(account, way), "transition_to")


@violates("transition_unknown_node")
def _(account: SampleAccount) -> str:
    branch = {"field": "status", "cases": {"a/b": "nowhere"}}
    where = function_at_node(account, {"name": "current_time", "transition_to": branch})
    return pointer(*where, "transition_to", "cases", "a/b")


@violates("transition_never_taken")
def _(account: SampleAccount) -> str:
    target = account.document["flow"]["initial_node"]
    where = function_at_node(account, {"name": "end_call", "transition_to": target})
    return pointer(*where, "transition_to")


@violates("transition_only_undescribed")
def _(account: SampleAccount) -> str:
    target = account.document["flow"]["initial_node"]
    where = function_at_node(account, {"name": "leave", "transition_only": True, "transition_to": target})
    return pointer(*where, "description")


@violates("transition_only_target")
def _(account: SampleAccount) -> str:
    where = function_at_node(account, {"name": "leave", "transition_only": True, "description": "x"})
    return pointer(*where, "transition_to")


@violates("function_description_refused")
def _(account: SampleAccount) -> str:
    where = function_at_node(account, {"name": "current_time", "description": "x"})
    return pointer(*where, "description")


@violates("function_unknown")
def _(account: SampleAccount) -> str:
    return pointer(*function_at_node(account, {"name": "find_nothing"}), "name")


@violates("function_duplicate")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["functions"] += [{"name": "current_time"}, {"name": "current_time"}]
    return pointer(*where, "functions", len(found["functions"]) - 1, "name")


@violates("function_duplicate")
def _(account: SampleAccount) -> str:
    account.document["flow"]["global_functions"].append({"name": "current_time"})
    return pointer(*function_at_node(account, {"name": "current_time"}), "name")


@violates("function_shadowed")
def _(account: SampleAccount) -> str:
    target = account.document["flow"]["initial_node"]
    way = {"name": "park_call", "transition_only": True, "description": "x", "transition_to": target}
    return pointer(*function_at_node(account, way), "name")


@violates("branch_empty")
def _(account: SampleAccount) -> str:
    way = {"name": "current_time", "transition_to": {"field": "x", "cases": {}}}
    return pointer(*function_at_node(account, way), "transition_to", "cases")


for _type in ("tts_say", "function", "notify"):

    @violates("action_refused")
    def _(account: SampleAccount, kind: str = _type) -> str:
        found, where = node(account)
        found["pre_actions"] = [{"type": kind, "text": "Hello", "handler": "x"}]
        return pointer(*where, "pre_actions", 0, "type")


@violates("action_refused")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["post_actions"] = [{"type": "end_conversation"}, {"type": "tts_say", "text": "Bye"}]
    return pointer(*where, "post_actions", 1, "type")


@violates("action_end_early")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["pre_actions"] = [{"type": "end_conversation"}]
    return pointer(*where, "pre_actions", 0, "type")


@violates("action_option_refused")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["post_actions"] = [{"type": "end_conversation", "text": "Bye"}]
    return pointer(*where, "post_actions", 0, "text")


@violates("no_exit")
def _(account: SampleAccount) -> str:
    agent = account.agent(with_flow=True)
    for each in account.documents[ORCHESTRATOR_ID]["routes"]:
        each["can_return"] = False
    agent["functions"] = []
    flow = agent["flow"]
    loop = {"name": "loop", "transition_only": True, "description": "x", "transition_to": "trap"}
    flow["nodes"][flow["initial_node"]]["functions"].append(loop)
    flow["nodes"]["trap"] = {
        "task_messages": [{"role": "developer", "content": "x"}],
        "functions": [dict(loop)],
    }
    return pointer("flow", "nodes", "trap")


@violates("no_exit")
def _(account: SampleAccount) -> str:
    agent = account.agent()
    for each in account.documents[ORCHESTRATOR_ID]["routes"]:
        each["can_return"] = False
    agent.update(functions=[], flow=None, prompt="You talk with {{ customer }}.")
    return "/functions"


# Routes

put("routes_missing", "routes", value=[])


@violates("agents_many", "routes_alike")
def _(account: SampleAccount) -> str:
    """An agent that the orchestrator routes to routes to a hundred more."""
    first, _ = route(account)
    target = account.documents[first["template_id"]]
    routes = []
    for number in range(100):
        key = f"0190a000-0000-7000-9000-{number:012x}"
        account.documents[key] = {
            "name": f"Agent {number}",
            "kind": "agent",
            "status": "active",
            "prompt": ".",
        }
        routes.append({"name": f"r{number}", "template_id": key, "when": str(number)})
    target["routes"] = routes
    return "/routes"


@violates("route_name_invalid")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["name"] = "our billing"
    return pointer(*where, "name")


@violates("route_name_reserved")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["name"] = "back"
    return pointer(*where, "name")


@violates("route_duplicate")
def _(account: SampleAccount) -> str:
    routes = account.document["routes"]
    routes[-1]["name"] = routes[0]["name"]
    return pointer("routes", len(routes) - 1, "name")


@violates("route_to_itself")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["template_id"] = ORCHESTRATOR_ID
    return pointer(*where, "template_id")


@violates("target_missing")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["template_id"] = account.chooser.choose(["", "0190a000-0000-7000-8000-00000000dead", "billing"])
    return pointer(*where, "template_id")


@violates("target_inactive")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    account.documents[found["template_id"]]["status"] = "draft"
    return pointer(*where, "template_id")


@violates("target_not_agent")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    account.documents[found["template_id"]]["kind"] = "orchestrator"
    return pointer(*where, "template_id")


@violates("target_duplicate")
def _(account: SampleAccount) -> str:
    routes = account.document["routes"]
    routes[-1]["template_id"] = routes[0]["template_id"]
    return pointer("routes", len(routes) - 1, "template_id")


@violates("route_when_missing")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["when"] = ""
    return pointer(*where, "when")


@violates("routes_alike")
def _(account: SampleAccount) -> str:
    routes = account.document["routes"]
    routes[-1]["when"] = routes[0]["when"].replace("asks about", "needs").upper()
    return pointer("routes", len(routes) - 1, "when")


@violates("context_without_variables")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["context"] = "variables"
    target = account.documents[found["template_id"]]
    target.update(variables=[], greeting=None, prompt="You are an agent.", flow=None)
    return pointer(*where, "context")


@violates("announce_empty")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["announce"] = " "
    return pointer(*where, "announce")


@violates("target_variable_unprovided")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    account.documents[found["template_id"]]["variables"].append({"name": "account", "required": True})
    return pointer(*where, "template_id")


@violates("target_variable_unprovided")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["context"] = "none"
    target = account.documents[found["template_id"]]
    target["variables"].append({"name": "account", "required": True, "source": "call"})
    return pointer(*where, "context")


@violates("target_variable_undescribed")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    target = account.documents[found["template_id"]]
    target["variables"].append({"name": "account", "required": True, "source": "call"})
    return pointer(*where, "template_id")


put("hop_limit_zero", "limits", "max_hops", value=0)


@violates("hop_limit_low")
def _(account: SampleAccount) -> str:
    account.document["limits"]["max_hops"] = 1
    route(account)[0]["can_return"] = True
    return "/limits/max_hops"


@violates("no_way_out")
def _(account: SampleAccount) -> str:
    found, where = route(account)
    found["can_return"] = False
    account.documents[found["template_id"]].update(functions=[], flow=None, prompt="Talk.")
    return pointer(*where, "can_return")


@violates("agent_unreached")
def _(account: SampleAccount) -> str:
    account.agent()
    front = account.documents[ORCHESTRATOR_ID]
    front["routes"] = [each for each in front["routes"] if each["template_id"] != account.checked]
    return "/status"


put("language_unknown", "language", value="en-UK")
put("language_unknown", "language", value="xx-YY", also="language_mismatch idle_language")
put("spoken_markup", "greeting", "text", value="Hello, see https://example.com.")
put("spoken_markup", "greeting", "text", value="Hello **you**.")
put("spoken_markup", "idle", "goodbye", value="Goodbye \U0001f44b")
put_http("url_key", "url", value="https://api.example.com/orders?api_key=abc")
put_http("url_key", "query", value={"token": "abc"}, at=("query", "token"))


@violates("limit_unused")
def _(account: SampleAccount) -> str:
    account.agent()["limits"] = {"max_hops": 3}
    return "/limits/max_hops"


@violates("node_without_edges")
def _(account: SampleAccount) -> str:
    document = account.agent(with_flow=True)
    document["functions"] = []
    last = list(document["flow"]["nodes"])[-1]
    document["flow"]["nodes"][last].update(post_actions=[], functions=[])
    front = account.documents[ORCHESTRATOR_ID]
    for each in front["routes"]:
        each["can_return"] = True
    return pointer("flow", "nodes", last)


@violates("function_named_undeclared")
def _(account: SampleAccount) -> str:
    document = account.agent()
    document.update(prompt="Call transfer_to_number for a person.", flow=None)
    return "/prompt"


@violates("variable_never_set")
def _(account: SampleAccount) -> str:
    variables = account.document["variables"]
    variables.append({"name": "weather", "source": "call"})
    account.document["idle"]["goodbye"] = "Goodbye {{ weather }}."
    return pointer("variables", len(variables) - 1, "source")


@violates("kept_value_too_early")
def _(account: SampleAccount) -> str:
    account.document["greeting"]["text"] = "Hello, {{ status_0 }}."
    return "/greeting/text"


put("function_node_unknown", "functions", 0, "nodes", value=["nowhere"], at=("functions", 0, "nodes", 0))


def a_transition(account: SampleAccount) -> tuple[Document, tuple[str | int, ...]]:
    """A function that is a transition only, and its path; not every node has one."""
    found = [
        (function, ("flow", "nodes", name, "functions", index))
        for name, each in account.document["flow"]["nodes"].items()
        for index, function in enumerate(each["functions"])
        if function.get("transition_only")
    ]
    return account.chooser.choose(found)


def transition(account: SampleAccount, **more: Any) -> tuple[str | int, ...]:
    """Change a function that is a transition only; returns its path."""
    function, where = a_transition(account)
    function.update(more)
    return where


@violates("transition_variable_unknown")
def _(account: SampleAccount) -> str:
    return pointer(*transition(account, parameters=["nothing"]), "parameters", 0)


@violates("transition_variable_unknown")
def _(account: SampleAccount) -> str:
    function, where = a_transition(account)
    to = function["transition_to"]
    edges = {"conditions": [{"variable": "nothing", "value": 1, "to": to}], "default": to}
    function["transition_to"] = edges
    return pointer(*where, "transition_to", "conditions", 0, "variable")


@violates("transition_variable_source")
def _(account: SampleAccount) -> str:
    return pointer(*transition(account, parameters=["customer"]), "parameters", 0)


@violates("transition_parameters_refused", "function_duplicate")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["functions"].append({"name": "find_0", "parameters": ["status_0"]})
    return pointer(*where, "functions", len(found["functions"]) - 1, "parameters")


@violates("dtmf_lost")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["dtmf"] = {"masked": True}
    return pointer(*where, "dtmf", "masked")


@violates("masked_value_inserted", "variable_unused")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    account.document["variables"].append({"name": "pin", "source": "call"})
    found["dtmf"] = {"masked": True, "variable": "pin"}
    found["say"] = "Your PIN is {{ pin }}."
    return pointer(*where, "say")


@violates("transition_unknown_node")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["dtmf"] = {"transition_to": "nowhere"}
    return pointer(*where, "dtmf", "transition_to")


@violates("transition_variable_unknown")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["dtmf"] = {"variable": "nothing"}
    return pointer(*where, "dtmf", "variable")


@violates("out_of_range")
def _(account: SampleAccount) -> str:
    found, where = node(account)
    found["dtmf"] = {"max_digits": 0}
    return pointer(*where, "dtmf", "max_digits")
