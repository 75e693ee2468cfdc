"""The parts of the OpenAPI document that FastAPI cannot derive: refusals, and examples."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from templates.model import TemplateContent
from voicebot.api.examples import add_answer_examples
from voicebot.api.problems import KINDS, MEDIA_TYPE, ApiProblem, FieldError, ProblemDocument

SCHEMA_REF = "#/components/schemas/{model}"

_DETAILS: dict[str, str] = {
    "orchestrator_exists": "The number is answered by the orchestrator 'Front desk'.",
    "template_in_use": "1 active template(s) route to this one.",
    "precondition_required": 'Send If-Match with the ETag of the resource that you read, such as "1".',
    "forbidden": "The role viewer does not allow this; it needs owner or admin or author.",
    "invalid_template": "The template has 1 fault.",
}
_ERRORS: dict[str, FieldError] = {
    "invalid_template": FieldError(
        pointer="/routes/0/template_id",
        code="target_inactive",
        message="The template that route 'billing' leads to is not active.",
        remedy="Activate that template first.",
    ),
    "invalid_request": FieldError(
        pointer="/e164", code="missing_field", message="Field required", remedy="Add a value."
    ),
    "invalid_payload": FieldError(
        pointer="/payload/customer",
        code="variable_required",
        message="'customer' is required and was not given.",
        remedy="Give a value of type string.",
    ),
}
_MORE: dict[str, dict[str, Any]] = {
    "orchestrator_exists": {"conflicting_template_id": "019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d"},
    "template_in_use": {"template_ids": ["019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d"]},
    "number_in_use": {"template_ids": ["019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d"]},
    "already_claimed": {"claimed_by": "019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d"},
    "stale_claim": {"claimed_by": None, "epoch": 2},
    "illegal_move": {"state": "busy", "allowed": ["away", "exhausted", "offline"]},
    "capacity_reached": {"capacity": 3},
}

TEMPLATE_EXAMPLES: dict[str, Any] = {
    "draft": {"summary": "The smallest document: a draft", "value": {"name": "Acme billing"}},
    "agent": {
        "summary": "An agent in one step",
        "value": {
            "name": "Acme billing",
            "status": "active",
            "description": "Answers questions about invoices.",
            "prompt": "You are the billing agent of Acme. Help the caller with their invoice.",
            "greeting": {"text": "Billing, how can I help?"},
        },
    },
    "orchestrator": {
        "summary": "An orchestrator that answers a number",
        "value": {
            "name": "Acme front desk",
            "kind": "orchestrator",
            "number_id": "019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d",
            "prompt": "You answer Acme's telephone. Find out what the caller wants and route them.",
            "greeting": {"text": "Hello, this is Acme. How can I help you?"},
            "routes": [
                {
                    "name": "billing",
                    "template_id": "019aa2c4-9b30-7c0e-8d6c-52b1f0e6a9d4",
                    "when": "The caller asks about an invoice, a payment or a refund.",
                }
            ],
        },
    },
}

SET_EXAMPLES: dict[str, Any] = {
    "set": {
        "summary": "An orchestrator and its agent",
        "value": {
            "templates": [
                {
                    "name": "Acme front desk",
                    "kind": "orchestrator",
                    "status": "active",
                    "number": "+14155550123",
                    "prompt": "You answer Acme's telephone. Find out what the caller wants and route them.",
                    "routes": [
                        {
                            "name": "billing",
                            "template": "Acme billing",
                            "when": "The caller asks about an invoice, a payment or a refund.",
                        }
                    ],
                },
                TEMPLATE_EXAMPLES["agent"]["value"],
            ],
            "expect": {"Acme front desk": 3, "Acme billing": None},
        },
    },
    "template": {"summary": "One template", "value": TEMPLATE_EXAMPLES["agent"]["value"]},
}


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has the current revision."}}

BODY = ("invalid_json", "payload_too_large", "unsupported_media_type")
"""Codes with which any operation with a body may be refused."""

CHANGE = ("not_found", "precondition_required", "precondition_failed")
"""Codes with which any change of an existing resource may be refused."""

_ALWAYS = (
    "unauthorized", "forbidden", "request_timeout", "uri_too_long", "headers_too_large", "database_busy",
    "database_unavailable",
)  # fmt: skip


def request_body(
    schema: Mapping[str, Any], examples: Mapping[str, Any], media_type: str = "application/json"
) -> dict[str, Any]:
    """The description of a body that FastAPI does not parse, for ``openapi_extra``."""
    content = {media_type: {"schema": dict(schema), "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def refuses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problem documents that an operation may answer with, by status, each code with an example.

    405 and 500 are possible everywhere and not listed.
    """
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in (*codes, *_ALWAYS):
        by_status[KINDS[code].status].append(code)
    return {status: _refusal(by_status[status]) for status in sorted(by_status)}


def _refusal(codes: Sequence[str]) -> dict[str, Any]:
    return {
        "description": "; ".join(KINDS[code].title for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": _ref("Problem")},
                "examples": {code: {"value": _example(code)} for code in codes},
            }
        },
    }


def _example(code: str) -> dict[str, Any]:
    detail = _DETAILS.get(code, KINDS[code].title + ".")
    errors = [_ERRORS[code]] if code in _ERRORS else []
    return ApiProblem(code, detail, errors=errors, more=_MORE.get(code, {})).document()


def describe(app: FastAPI, public_url: str | None) -> None:
    """Complete the app's OpenAPI document; ``public_url`` is the address of the server if it is known."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                routes=app.routes,
                tags=app.openapi_tags,
                servers=[{"url": public_url or "/", "description": "This server"}],
                separate_input_output_schemas=False,
            )
            _add_schemas(document["components"]["schemas"])
            _remove_defaults(document)
            document = _with_page_names(document)
            add_answer_examples(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending OpenAPI


def serve_document(app: FastAPI) -> None:
    """Answer ``openapi_url`` with the document as it is made once, at the first request, in a thread.

    FastAPI's own route makes it on the event loop, which takes 400 ms, and writes it as JSON each time.
    """
    made, making = list[bytes](), asyncio.Lock()

    async def document(_: Request) -> Response:
        async with making:
            if not made:
                made.append(await asyncio.to_thread(lambda: json.dumps(app.openapi()).encode()))
        return Response(made[0], media_type="application/json")

    app.router.routes.insert(0, Route(str(app.openapi_url), document, include_in_schema=False))


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Add the schemas that are referred to by name and are not the model of a route."""
    for name, model in (("Problem", ProblemDocument), ("TemplateContent", TemplateContent)):
        schema = model.model_json_schema(ref_template=SCHEMA_REF)
        for inner, definition in schema.pop("$defs", {}).items():
            schemas.setdefault(inner, definition)
        schemas[name] = schema
    schemas["TemplatePatch"] = patch_schema(schemas["TemplateContent"], "TemplatePatch")


def patch_schema(schema: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The schema of a merge patch (RFC 7396): no member is required, null resets an optional one.

    A member that is an object with definitions of its own (``$defs``) is patched in the same way, which its
    definition does not say: it is any object here.
    """
    members = {}
    for name, member in schema["properties"].items():
        plain = {key: value for key, value in member.items() if key != "default"}
        kept = {key: plain.pop(key) for key in ("title", "description") if key in plain}
        if str(plain.get("$ref", "")).startswith("#/$defs/"):
            plain = {"type": "object"}
        choices = plain.pop("anyOf", None) or [plain]
        if name not in schema.get("required", ()) and {"type": "null"} not in choices:
            choices = [*choices, {"type": "null"}]
        members[name] = {**kept, "anyOf": choices}
    return {
        "title": title,
        "type": "object",
        "description": "What to change: members that are left out stay, null removes a value.",
        "properties": members,
        "additionalProperties": False,
    }


def _remove_defaults(document: dict[str, Any]) -> None:
    """Remove FastAPI's own 422, which this API never answers."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _with_page_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document with each page named after its items' schema; pydantic uses the items' annotation."""
    text = json.dumps(document)
    for name, schema in document["components"]["schemas"].items():
        if name.startswith("PageOf_Annotated_"):
            item = schema["properties"]["items"]["items"]["$ref"].removeprefix(_ref(""))
            text = text.replace(f'"{name}"', f'"PageOf_{item}_"')
            text = text.replace(f'"{_ref(name)}"', f'"{_ref(f"PageOf_{item}_")}"')
            text = text.replace(json.dumps(schema["title"]), f'"PageOf[{item}]"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _ref(name: str) -> str:
    return SCHEMA_REF.format(model=name)
