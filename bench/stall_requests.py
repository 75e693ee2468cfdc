"""The requests of ``bench.stall``, by kind: large, deep, wide, slow, many, and ordinary ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator

from bench.environment import PUBLIC_URL
from voicebot.sandbox.environment import TWILIO_AUTH_TOKEN

MIB = 1024 * 1024
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
API = "/api/v1"
SET_SIZE = 40
"""How many large templates the account has, for lists and exports."""

CHECK = "/api/v1/templates/check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of one kind, sent ``count`` times at once."""

    path: str
    method: str = "POST"
    body: bytes = b""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    has_key: bool = True
    drip: bytes | None = None
    """What each of ``count`` connections sends, with the pauses of a slow client, after ``body``, which is
    what it sends at once; None: an ordinary request."""


def template(**fields: Any) -> bytes:
    """Return a template as the body of a request."""
    return json.dumps({"name": "Large", **fields}).encode()


def http_function(**fields: Any) -> list[dict[str, Any]]:
    """Return the functions of a template with one HTTP function."""
    return [{"type": "http", "name": "find", "description": "x", "url": "https://example.com/", **fields}]


def large_template() -> bytes:
    """Return a template of about the largest size allowed, with an expensive check."""
    words = [f"word{n}" for n in range(600)]
    whens = [" ".join(words[(n * 7 + m * 13) % 600] for m in range(280)) for n in range(100)]
    routes = [{"name": f"r{n}", "when": when} for n, when in enumerate(whens)]
    return template(kind="orchestrator", routes=routes)


def lead(payload: Any) -> Request:
    """Return a lead with a payload."""
    return Request(path=f"{API}/leads", body=json.dumps({"payload": payload}).encode())


def signed(path: str, form: Mapping[str, str]) -> Request:
    """Return a carrier's webhook."""
    signature = RequestValidator(TWILIO_AUTH_TOKEN).compute_signature(f"{PUBLIC_URL}{path}", dict(form))
    return Request(
        path=path,
        media_type=FORM,
        headers={"X-Twilio-Signature": signature},
        body=urlencode(form).encode(),
        has_key=False,
    )


def slow(first: bytes, drip: bytes, count: int) -> Request:
    """Return connections that send their request slowly, or not at all."""
    return Request(path="", body=first, drip=drip, count=count, has_key=False)


def set_of_large_templates() -> bytes:
    """Return a set of ``SET_SIZE`` templates of 40 KiB."""
    texts = [{"name": f"Large {n}", "prompt": f"{n} " + "word " * 8000} for n in range(SET_SIZE)]
    return json.dumps({"templates": texts}).encode()


def requests() -> Mapping[str, Request]:
    """Return the requests by kind."""
    return {**honest_requests(), **hostile_requests(), **slow_requests(), **many_requests()}


def honest_requests() -> Mapping[str, Request]:
    """Return ordinary requests, with large answers where a route has them."""
    call = {"CallSid": "CA" + "0" * 32, "AccountSid": "AC" + "0" * 32, "From": "+14155550177"}
    lists = ("templates", "numbers", "leads", "calls", "handoffs", "users", "keys", "channels", "audit")
    return {
        **{f"list of {each}": Request(path=f"{API}/{each}?limit=200", method="GET") for each in lists},
        "check": Request(path=CHECK, body=template(prompt="You are an agent.")),
        "schema": Request(path=f"{API}/templates/schema", method="GET"),
        "export": Request(path=f"{API}/templates/export", method="GET"),
        "export as YAML": Request(path=f"{API}/templates/export?format=yaml", method="GET"),
        "metrics of handoffs": Request(path=f"{API}/metrics/handoffs", method="GET"),
        "/openapi.json": Request(path="/openapi.json", method="GET", has_key=False),
        "/metrics": Request(path="/metrics", method="GET", has_key=False),
        "signed status": signed("/webhooks/twilio/status", {**call, "CallStatus": "completed"}),
        "signed voice of an unknown number": signed(
            "/webhooks/twilio/voice", {**call, "To": "+14155550178", "Direction": "inbound"}
        ),
        "large lead": lead({"a": "x" * 65_000}),
    }


def slow_requests() -> Mapping[str, Request]:
    """Return clients that have sent only a part of their request."""
    head = f"POST {CHECK} HTTP/1.1\r\nHost: x\r\n".encode()
    media = b"GET /media/twilio HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    media += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    webhook = b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    return {
        "550 idle sockets": slow(b"", b"", 550),
        "550 half headers": slow(head, b"", 550),
        "200 dripping headers": slow(head, b"X-A: 1\r\n", 200),
        "200 dripping bodies": slow(webhook, b"a=1&", 200),
        "500 half-open media sockets": slow(media, b"", 500),
    }


def many_requests() -> Mapping[str, Request]:
    """Return requests that are sent at once."""
    return {
        "a hundred lists": Request(path=f"{API}/templates?limit=200", method="GET", count=100),
        "seven largest checks": Request(path=CHECK, body=large_template(), count=7),
        "a hundred largest checks": Request(path=CHECK, body=large_template(), count=100),
    }


def hostile_requests() -> Mapping[str, Request]:
    """Return requests of nearly the largest size allowed, or more."""
    patterns = {f"p{n}": {"type": "string", "pattern": rf"(\pL{{{100 - n}}}){{4}}"} for n in range(40)}
    braces = "https://example.com/" + "{{" * 20_000
    keys = "".join(" " * n + "k" * 9000 + f"{n}:\n" for n in range(40))
    required = [{"a": n} for n in range(3000)]
    nested: dict[str, Any] = {"type": "object"}
    for _ in range(12):
        nested = {"allOf": [nested], "unevaluatedProperties": nested}
    links = {f"l{n}": {"$ref": f"#/$defs/l{n + 1}"} for n in range(1000)}
    chained = {"type": "object", "properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": {**links, "l1000": {}}}
    routes = [
        {"name": f"r{n}", "when": " ".join(f"w{(n + m) % 900}" for m in range(60))} for n in range(1500)
    ]
    return {
        "url of braces": Request(path=CHECK, body=template(functions=http_function(url=braces))),
        "patterns": Request(
            path=CHECK,
            body=template(functions=http_function(parameters={"type": "object", "properties": patterns})),
        ),
        "required objects": Request(
            path=CHECK,
            body=template(functions=http_function(parameters={"type": "object", "required": required})),
        ),
        "nested schema": Request(path=CHECK, body=template(functions=http_function(parameters=nested))),
        "chained references": Request(path=CHECK, body=template(functions=http_function(parameters=chained))),
        "similar routes": Request(path=CHECK, body=template(kind="orchestrator", routes=routes)),
        "unknown fields": Request(path=CHECK, body=template(**{f"promp{n}": 1 for n in range(50_000)})),
        "many values": Request(path=CHECK, body=template(body=[0] * 600_000)),
        "deep JSON": Request(path=CHECK, body=b"[" * MIB),
        "long text": Request(path=CHECK, body=template(prompt="{{ a" * 480_000)),
        "long keys in YAML": Request(
            path="/api/v1/templates/import",
            media_type="application/yaml",
            body=f"{keys}{' ' * 40}- 1".encode(),
        ),
        "values in YAML": Request(
            path="/api/v1/templates/import", media_type="application/yaml", body=b"- 1\n" * 180_000
        ),
        "set of 500": Request(
            path="/api/v1/templates/import?dry_run=true",
            body=json.dumps(
                {"templates": [{"name": f"T{n}", "prompt": "x" * 3500} for n in range(500)]}
            ).encode(),
        ),
        "body before the key": Request(path=CHECK, body=template(body=[0] * 600_000), has_key=False),
        "condition of spaces": Request(
            path="/api/v1/templates/01a1fb64-16ef-7341-baef-1bff17f7b0e5",
            method="DELETE",
            headers={"If-Match": '"1"' + " " * 3000 + "x"},
        ),
        "webhook of 9,000 fields": Request(
            path="/webhooks/twilio/voice",
            media_type=FORM,
            body="&".join(f"f{n}=1" for n in range(6000)).encode(),
            has_key=False,
        ),
        "one field over 2 MiB": Request(
            path="/webhooks/twilio/voice", media_type=FORM, body=b"f=1&" * (MIB // 2), has_key=False
        ),
        "lead of 300 levels": lead(json.loads('{"a":' * 300 + "1" + "}" * 300)),
    }
