"""The words of answers that no instruction gives: results, questions, summaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from voicebot.sandbox.model.conversation import Conversation, FunctionCall
from voicebot.sandbox.model.words import spaced

HELLO = "Hello! How can I help you?"
GO_ON = "I see. Tell me a little more, please."
DONE = "That is done."
ELSE = "Is there anything else I can do for you?"
GOODBYE = "Thank you for calling. Goodbye!"
_SILENT = frozenset({"status", "code", "retryable", "type", "id"})
_SAID = re.compile(r'"speaker":\s*"((?:[^"\\]|\\.)*)",\s*"(?:said|text)":\s*"((?:[^"\\]|\\.)*)"')


def question(missing: str) -> str:
    """Ask for an argument."""
    return f"Could you tell me the {spaced(missing)}, please?"


def results(done: Sequence[FunctionCall]) -> str:
    """Tell what the last two functions returned, except what they were given."""
    return " ".join(dict.fromkeys(text for call in done[-2:] if (text := _result(call))))


def _result(call: FunctionCall) -> str:
    if call.failed:
        agent, reason = call.arguments.get("agent"), call.result.get("message") or call.result.get("error")
        if agent:
            return f"I am sorry, I cannot put you through to {spaced(agent)} right now."
        return f"I am sorry, that did not work. {reason or ''}".strip()
    if not isinstance(call.result, Mapping):
        return f"{call.result}." if isinstance(call.result, str) else ""
    facts = [f"The {spaced(name)} is {value}." for name, value in call.result.items() if _is_told(call, name)]
    return " ".join(facts[:4])


def _is_told(call: FunctionCall, name: str) -> bool:
    value = call.result[name]
    simple = isinstance(value, str | int | float) and value != ""
    return simple and name not in _SILENT and value not in call.arguments.values()


def summary(conversation: Conversation) -> str:
    """Sum up a quoted conversation: what the caller said, and the agent's last words."""
    lines = [line for text in conversation.quoted for line in _SAID.findall(text)]
    caller = [f"The caller said: {said.rstrip('.!? ')}." for speaker, said in lines if speaker == "caller"]
    agent = [f"The agent last said: {said.rstrip('.!? ')}." for speaker, said in lines if speaker != "caller"]
    return " ".join([*caller[-4:], *agent[-1:]]) or "Nothing was said yet."


def form(schema: Mapping[str, Any], conversation: Conversation) -> Any:
    """Return a value that a JSON Schema allows; each text in it is the summary of the quoted conversation."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):  # one that may be null
        return form({**schema, "type": kind[0]}, conversation)
    low = schema.get("minimum", 0)
    middle = (low + schema.get("maximum", low + 1)) / 2
    match schema.get("type"):
        case "object":
            return {name: form(each, conversation) for name, each in (schema.get("properties") or {}).items()}
        case "array":
            return [form(schema.get("items") or {}, conversation)]
        case "integer" | "number":
            return int(middle) if schema["type"] == "integer" else middle
        case "boolean":
            return False
    return summary(conversation)[: int(schema.get("maxLength", 300))]
