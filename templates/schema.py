"""The JSON Schema of a template, for editors.

In addition to the structure it contains ranges, patterns, the names of built-in functions,
and the providers with their settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from templates import flow, functions, model
from templates.bounds import Bounds, TextPattern
from templates.check.context import BUILTIN_FUNCTIONS, ProviderRules, ProviderTable
from templates.sets import file_model
from templates.sets.file_model import FileRoute, FileTemplate, ordered

DIALECT = "https://json-schema.org/draft/2020-12/schema"

EXAMPLES: tuple[dict[str, Any], ...] = (
    {
        "name": "Acme billing",
        "description": "Answers questions about invoices and takes payments.",
        "status": "active",
        "prompt": "You are the billing agent of Acme. The caller is {{ customer_name }}. Be brief.",
        "variables": [{"name": "customer_name", "description": "First and last name"}],
        "greeting": {"text": "Billing, how can I help?"},
        "tts": {"provider": "elevenlabs", "voice_id": "EXAVITQu4vr4xnSDxMaL"},
    },
    {
        "name": "Acme front desk",
        "kind": "orchestrator",
        "flow": {
            "initial_node": "greet",
            "nodes": {
                "greet": {
                    "role_message": "You are the receptionist of Acme. You are friendly and brief.",
                    "task_messages": [
                        {
                            "role": "developer",
                            "content": "Find out what the caller needs, then route the call.",
                        }
                    ],
                    "functions": [
                        {
                            "name": "find_order",
                            "transition_to": {
                                "field": "status",
                                "cases": {"ok": "order"},
                                "default": "greet",
                            },
                        }
                    ],
                },
                "order": {
                    "task_messages": [
                        {
                            "role": "developer",
                            "content": "Tell the caller that the order is {{ order_status }}.",
                        }
                    ]
                },
            },
        },
        "variables": [{"name": "order_status", "source": "call"}],
        "tts": {"provider": "elevenlabs", "voice_id": "JBFqnCBsd6RMkjVDRZzb"},
        "functions": [
            {"type": "builtin", "name": "end_call"},
            {
                "type": "http",
                "name": "find_order",
                "description": (
                    "Looks up an order by its number. Call it when the caller has said the number."
                ),
                "method": "GET",
                "url": "https://api.example.com/orders/{{ order_number }}",
                "secret_headers": {"Authorization": "Bearer …"},
                "parameters": {
                    "type": "object",
                    "properties": {
                        "order_number": {"type": "string", "description": "As the caller says it."}
                    },
                    "required": ["order_number"],
                },
                "wait_text": "One moment, please.",
                "keep": {"order_status": "/order/status"},
            },
        ],
        "routes": [
            {
                "name": "billing",
                "template_id": "01a5a3c2-7c1e-7a52-9d5b-0f8d7a4b1c2d",
                "when": "The caller asks about an invoice, a payment or a refund.",
                "announce": "I'll put you through to billing.",
            }
        ],
    },
)
"""Complete templates: an agent with a prompt, and an orchestrator with a flow, an HTTP function and a
route."""


def template_schema(
    *,
    builtins: frozenset[str] = BUILTIN_FUNCTIONS,
    providers: ProviderTable | None = None,
) -> dict[str, Any]:
    """The schema of a template in the API.

    Args:
        builtins: names of the built-in functions; ``route_to_agent`` is left out, as it is not declared.
        providers: the providers that can be named, with their settings; None: unknown.
    """
    schema = _schema_with_constraints(model.TemplateContent, builtins, providers)
    return {"$schema": DIALECT, **schema, "title": "Conversation template", "examples": list(EXAMPLES)}


def file_schema(
    *,
    builtins: frozenset[str] = BUILTIN_FUNCTIONS,
    providers: ProviderTable | None = None,
) -> dict[str, Any]:
    """The schema of a file: one template, or a list under ``templates``, with names in place of ids."""
    one = _schema_with_constraints(FileTemplate, builtins, providers)
    definitions = one.pop("$defs")
    definitions[FileTemplate.__name__] = {**one, "title": "Conversation template"}
    for part in (FileTemplate, FileRoute):
        properties = definitions[part.__name__]["properties"]
        definitions[part.__name__]["properties"] = {name: properties[name] for name in ordered(properties)}
    reference = {"$ref": f"#/$defs/{FileTemplate.__name__}"}
    several = {
        "type": "object",
        "title": "Conversation templates",
        "properties": {
            "templates": {
                "type": "array",
                "items": reference,
                "description": "The templates of this file; their routes name each other.",
            },
            "expect": {
                "type": "object",
                "additionalProperties": {"type": ["integer", "null"], "minimum": 1},
                "description": "Revisions that the account's templates must have for an import, by name.",
            },
        },
        "required": ["templates"],
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "Template file",
        "if": {"type": "object", "required": ["templates"]},
        "then": several,
        "else": reference,
        "$defs": definitions,
        "examples": [{"templates": [_as_file_example(example) for example in EXAMPLES]}],
    }


def _schema_with_constraints(
    root: type[BaseModel], builtins: frozenset[str], providers: ProviderTable | None
) -> dict[str, Any]:
    """A template's schema with the rules of the check that JSON Schema can express."""
    schema = root.model_json_schema()
    definitions: dict[str, dict[str, Any]] = schema["$defs"]
    described = {**definitions, root.__name__: schema}
    for part in _template_models():
        for name, field in part.model_fields.items() if part.__name__ in described else ():
            described[part.__name__]["properties"][name].update(_constraints(field))
    definitions["BuiltinFunction"]["properties"]["name"]["enum"] = sorted(builtins - {"route_to_agent"})
    for kind, known in (providers or {}).items():
        definitions |= {rules.settings.__name__: _settings_schema(rules) for rules in known.values()}
        for name in (kind.capitalize(), f"{kind.capitalize()}Service"):
            _offer(definitions[name], known)
    return schema


def _settings_schema(rules: ProviderRules) -> dict[str, Any]:
    schema = rules.settings.model_json_schema()
    return {name: value for name, value in schema.items() if name != "$defs"}


def _offer(part: dict[str, Any], known: Mapping[str, ProviderRules]) -> None:
    """State in the schema of a service, or of its backups, which providers there are and their settings."""
    provider = part["properties"]["provider"]
    provider["enum"] = sorted(known)
    cases = []
    for name, rules in known.items():
        chosen: dict[str, Any] = {"properties": {"provider": {"const": name}}}
        if name != provider["default"]:
            chosen["required"] = ["provider"]
        properties: dict[str, Any] = {"settings": {"$ref": f"#/$defs/{rules.settings.__name__}"}}
        if rules.voices is not None:
            properties["voice_id"] = {"pattern": f"^{rules.voices.pattern}$"}
        cases.append({"if": chosen, "then": {"properties": properties}})
    part["allOf"] = cases


def _as_file_example(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example in the form of a file: its route names the other example."""
    routes = [
        {
            **{name: value for name, value in route.items() if name != "template_id"},
            "template": EXAMPLES[0]["name"],
        }
        for route in example.get("routes", ())
    ]
    return {**example, "routes": routes} if routes else dict(example)


def _template_models() -> Iterator[type[BaseModel]]:
    seen: set[type[BaseModel]] = set()
    for module in (flow, functions, model, file_model):
        for part in vars(module).values():
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
                seen.add(part)
                yield part


def _constraints(field: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for note in field.metadata:
        if isinstance(note, Bounds):
            found |= {"minimum": note.minimum, "maximum": note.maximum}
        elif isinstance(note, TextPattern):
            found["pattern"] = f"^{note.pattern}$"
    return found
