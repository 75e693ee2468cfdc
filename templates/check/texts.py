"""Rules about placeholders: every text that may contain `{{ name }}`, and the names that it may use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.functions import HttpFunction
from templates.model import TemplateContent
from templates.parameters import parameter_names
from templates.problem import Problem
from templates.values import BRACED, placeholders

_BRACES = re.compile(r"\{\{[^{}\n]{0,80}\}\}")
_SINGLE = re.compile(r"(?<!\{)\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}(?!\})")


EXPECTED_WAIT = "expected_wait"
"""The additional name that `waiting.line` may insert."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text field of the template.

    Attributes:
        path: keys and indexes of the field in the document.
        text: its value.
        extra: names that it may insert in addition to the variables (an HTTP function's parameters).
    """

    path: tuple[str | int, ...]
    text: str
    extra: frozenset[str] = frozenset()


def texts_with_placeholders(content: TemplateContent) -> Iterator[Text]:
    """Every text in which placeholders are replaced by values."""
    if content.prompt is not None:
        yield Text(("prompt",), content.prompt)
    yield from _flow_texts(content)
    if content.greeting is not None:
        yield Text(("greeting", "text"), content.greeting.text)
    for index, prompt in enumerate(content.idle.prompts):
        yield Text(("idle", "prompts", index), prompt)
    yield Text(("idle", "goodbye"), content.idle.goodbye)
    yield Text(("outbound", "voicemail", "message"), content.outbound.voicemail.message)
    yield Text(("waiting", "line"), content.waiting.line, extra=frozenset({EXPECTED_WAIT}))
    for index, filler in enumerate(content.fillers or ()):
        yield Text(("fillers", index), filler)
    for index, route in enumerate(content.routes):
        if route.announce is not None:
            yield Text(("routes", index, "announce"), route.announce)
    for index, function in enumerate(content.functions):
        if isinstance(function, HttpFunction):
            yield from _http_texts(("functions", index), function)


def _flow_texts(content: TemplateContent) -> Iterator[Text]:
    for name, node in content.flow.nodes.items() if content.flow is not None else ():
        where = ("flow", "nodes", name)
        if node.role_message is not None:
            yield Text((*where, "role_message"), node.role_message)
        for index, message in enumerate(node.task_messages):
            yield Text((*where, "task_messages", index, "content"), message.content)
        if node.say is not None:
            yield Text((*where, "say"), node.say)


def _http_texts(where: tuple[str | int, ...], function: HttpFunction) -> Iterator[Text]:
    extra = parameter_names(function.parameters)
    yield Text((*where, "url"), function.url, extra)
    if function.wait_text is not None:
        yield Text((*where, "wait_text"), function.wait_text, extra)
    for part in ("query", "headers", "secret_headers"):
        for key, value in getattr(function, part).items():
            yield Text((*where, part, key), value, extra)
    for path, text in _strings(function.body):
        yield Text((*where, "body", *path), text, extra)


def _strings(value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            for path, text in _strings(inner):
                yield (str(key), *path), text
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            for path, text in _strings(inner):
                yield (index, *path), text


def _texts_without_placeholders(content: TemplateContent) -> Iterator[Text]:
    """Texts in which placeholders are not replaced, although an author may expect it."""
    yield Text(("description",), content.description)
    for index, variable in enumerate(content.variables):
        yield Text(("variables", index, "description"), variable.description)
    for index, route in enumerate(content.routes):
        yield Text(("routes", index, "when"), route.when)
    yield Text(("waiting", "audio"), content.waiting.audio or "")
    for place, refusal in content.inbound.all_refusals() if content.inbound is not None else ():
        yield Text(("inbound", *place, "text"), refusal.text)
    for index, function in enumerate(content.functions):
        if isinstance(function, HttpFunction):
            yield Text(("functions", index, "description"), function.description)
    for name, node in content.flow.nodes.items() if content.flow is not None else ():
        for index, reference in enumerate(node.functions):
            yield Text(
                ("flow", "nodes", name, "functions", index, "description"), reference.description or ""
            )


def check_texts(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check for undeclared names, invalid paths, malformed placeholders, and texts that are not rendered."""
    kinds = {variable.name: variable.type for variable in content.variables}
    for text in texts_with_placeholders(content):
        if "{" in text.text:
            yield from _insertions(text, kinds)
            yield from _braces(text, kinds)
    for text in _texts_without_placeholders(content):
        if placeholders(text.text):
            message = f"'{{{{ {placeholders(text.text)[0]} }}}}' is not replaced by a value in this field."
            yield problem_for("placeholder_not_rendered", text.path, message)


def note_caller_values(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Note where a value that is set during the call enters instructions: the caller may have chosen it."""
    set_during_call = {variable.name for variable in content.variables if variable.source == "call"}
    for text in instructions(content) if set_during_call else ():
        for path in dict.fromkeys(placeholders(text.text)):
            if path.partition(".")[0] in set_during_call:
                message = f"'{{{{ {path} }}}}' is set during the call, and becomes part of the instructions."
                yield problem_for("caller_value_in_instructions", text.path, message)


def instructions(content: TemplateContent) -> Iterator[Text]:
    """The texts that a model receives as instructions."""
    if content.prompt is not None:
        yield Text(("prompt",), content.prompt)
    yield from (text for text in _flow_texts(content) if text.path[-1] != "say")


def _insertions(text: Text, kinds: Mapping[str, str]) -> Iterator[Problem]:
    for path in dict.fromkeys(placeholders(text.text)):
        name, _, part = path.partition(".")
        if name not in kinds and name not in text.extra:
            yield problem_for(
                "placeholder_undeclared", text.path, f"'{{{{ {path} }}}}' is not a declared variable."
            )
        elif part and name not in text.extra and kinds[name] != "object":
            message = (
                f"'{{{{ {path} }}}}' uses a part of '{name}', which is of type {kinds[name]}, not `object`."
            )
            yield problem_for("placeholder_path", text.path, message)


def _braces(text: Text, kinds: Mapping[str, str]) -> Iterator[Problem]:
    rest = BRACED.sub("", text.text)
    if "{" not in rest:
        return
    suspicious = _BRACES.findall(rest) + [
        f"{{{name}}}" for name in _SINGLE.findall(rest) if name in kinds or name in text.extra
    ]
    for found in dict.fromkeys(suspicious):
        yield problem_for(
            "placeholder_malformed", text.path, f"'{found}' is not a placeholder and is not replaced."
        )
