"""Rules about HTTP functions: URL, parameters, headers, kept values and body; and about other URLs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from jsonschema import Draft202012Validator

from templates.addresses import is_internal_name, is_public, literal_address
from templates.bounds import TOOL_NAME
from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.functions import HttpFunction
from templates.model import TemplateContent, Variable
from templates.parameters import SchemaFaultKind, properties_and_required, read_parameters
from templates.problem import Problem

Path = tuple[str | int, ...]

_INSERTED = re.compile(r"\{\{[^{}]*\}\}")  # linear: each character is visited for one opening brace only
_KEY_NAME = re.compile(
    r"(?:x[-_])?(?:api[-_]?key|key|access[-_]?token|auth[-_]?token|token|secret|password|client[-_]?secret)",
    re.IGNORECASE,
)
_NOT_IN_URL = re.compile(r"[\s\x00-\x1f\\]")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|api-?_?key|^x-auth|credential", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"^\s*(bearer|basic)\s+\S|\bsk[-_][A-Za-z0-9]{8}|\beyJ[A-Za-z0-9_-]{10,}\.", re.IGNORECASE
)
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEMA_FAULTS: Mapping[SchemaFaultKind, tuple[str, str]] = {
    "remote": ("parameters_remote", "The schema refers to another document."),
    "unknown": ("parameters_reference_unknown", "The schema has no part '{}'."),
    "endless": (
        "parameters_endless",
        "'{}' refers to itself, or expands to more parts than are allowed.",
    ),
    "pattern": ("parameters_pattern_unsupported", "The pattern '{}' is not supported by RE2."),
    "names": ("parameters_names_unsupported", "`patternProperties` is not supported."),
    "keyword": ("parameters_keyword_unsupported", "`{}` is not supported."),
    "deep": ("parameters_deep", "The schema, with its references expanded, has too many levels."),
}
_MAX_SCHEMA_FAULTS = 20
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


def check_http(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check every HTTP function of the template, and its other addresses."""
    variables = {variable.name: variable for variable in content.variables}
    for index, function in enumerate(content.functions):
        if isinstance(function, HttpFunction):
            where = ("functions", index)
            yield from _url((*where, "url"), function.url, context)
            yield from _keys_in_url(where, function)
            yield from _parameters((*where, "parameters"), function.parameters, variables)
            yield from _headers(where, function)
            yield from _keep((*where, "keep"), function.keep, variables)
            yield from _sending(where, function)
    if content.waiting.audio is not None:
        yield from _url(("waiting", "audio"), content.waiting.audio, context)
    if content.outbound.precheck is not None:
        yield from _url(("outbound", "precheck", "url"), content.outbound.precheck.url, context)
    if content.outbound.webhook_url is not None:
        yield from _url(("outbound", "webhook_url"), content.outbound.webhook_url, context)


def _url(where: Path, url: str, context: CheckContext) -> Iterator[Problem]:
    if not url.strip():
        yield problem_for("url_missing", where, "There is no URL.")
        return
    parts = _split(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        yield problem_for("url_invalid", where, "The URL is not a complete http or https address.")
        return
    if "{{" in parts.netloc:
        yield problem_for("url_host_templated", where, "The host of the URL contains a placeholder.")
        return
    if "@" in parts.netloc:
        yield problem_for("url_credentials", where, "The URL contains a user name or a password.")
    if not parts.hostname or _port(parts) is None:
        yield problem_for("url_invalid", where, "The URL has no host or an invalid port.")
        return
    if f"{parts.hostname}:{_port(parts)}" in context.http_allow:
        return
    if _is_private(parts.hostname):
        yield problem_for("url_private_address", where, f"'{parts.hostname}' is not a public host.")
    elif parts.scheme == "http":
        yield problem_for("url_insecure", where, "The URL uses http, which is not encrypted.")


def _keys_in_url(where: Path, function: HttpFunction) -> Iterator[Problem]:
    """Keys in the query of a URL, which logs keep; a value that is inserted is not one."""
    parts = _split(_INSERTED.sub("", function.url))
    found: list[tuple[Path, str, str]] = [
        (("url",), name, value) for name, value in parse_qsl(parts.query if parts else "")
    ]
    found += [(("query", name), name, _INSERTED.sub("", value)) for name, value in function.query.items()]
    for path, name, value in found:
        if _KEY_NAME.fullmatch(name) and value.strip():
            yield problem_for("url_key", (*where, *path), f"The query contains a secret: '{name}'.")


def _split(url: str) -> SplitResult | None:
    if url != url.strip() or _NOT_IN_URL.search(_INSERTED.sub("", url)):
        return None
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        return None


def _is_private(host: str) -> bool:
    address = literal_address(host)
    return not is_public(address) if address is not None else is_internal_name(host)


def _parameters(where: Path, schema: dict[str, Any], variables: Mapping[str, Variable]) -> Iterator[Problem]:
    if not schema:
        return
    read = read_parameters(schema)
    if any(fault.kind == "deep" for fault in read.faults):
        yield problem_for("parameters_deep", where, _SCHEMA_FAULTS["deep"][1])
        return
    faults = _schema_faults(json.dumps(schema, sort_keys=True))
    for path in faults:
        part = ".".join(map(str, path))
        message = f"'{part}' is not valid JSON Schema." if part else "`parameters` is not valid JSON Schema."
        yield problem_for("parameters_invalid", (*where, *path), message)
    if schema.get("type") != "object" and ("type",) not in faults:
        yield problem_for("parameters_not_object", (*where, "type"), "The schema's 'type' is not 'object'.")
    for fault in read.faults:
        code, message = _SCHEMA_FAULTS[fault.kind]
        yield problem_for(code, (*where, *fault.path), message.format(fault.text))
    if faults:
        return
    properties, required = properties_and_required(read.schema)
    for name, inner in properties.items():
        yield from _parameter((*where, "properties", name), name, inner, variables)
    for index, name in enumerate(required):
        if name not in properties:
            message = f"'{name}' is listed in `required`, but not in `properties`."
            yield problem_for("parameter_undefined", (*where, "required", index), message)


@lru_cache(maxsize=64)
def _schema_faults(schema: str) -> tuple[Path, ...]:
    """Paths of the errors of a schema (as JSON). Cached: it takes 1.6 ms, and most saves change no schema."""
    return tuple(
        tuple(fault.absolute_path)
        for fault in islice(_METASCHEMA.iter_errors(json.loads(schema)), _MAX_SCHEMA_FAULTS)
    )


def _parameter(where: Path, name: str, schema: Any, variables: Mapping[str, Variable]) -> Iterator[Problem]:
    if not TOOL_NAME.matches(name):
        yield problem_for("parameter_name_invalid", where, f"'{name}' is not a valid parameter name.")
    if not isinstance(schema, Mapping) or not str(schema.get("description", "")).strip():
        yield problem_for(
            "parameter_undescribed", where, f"The parameter '{name}' has no description for the model."
        )
    if name in variables:
        message = f"'{name}' is both a parameter of this function and a variable of the template."
        yield problem_for("parameter_shadows_variable", where, message)


def _headers(where: Path, function: HttpFunction) -> Iterator[Problem]:
    secret = {name.lower() for name in function.secret_headers}
    for part in ("headers", "secret_headers"):
        headers: Mapping[str, str] = getattr(function, part)
        for name, value in headers.items():
            place = (*where, part, name)
            if not _HEADER.fullmatch(name) or "\n" in value or "\r" in value:
                yield problem_for("header_invalid", place, f"'{name}' is not a valid header.")
            elif name.lower() in _RESERVED_HEADERS:
                yield problem_for(
                    "header_reserved", place, f"'{name}' is set by the HTTP client and cannot be declared."
                )
            elif part == "headers" and name.lower() in secret:
                yield problem_for(
                    "header_duplicate", place, f"'{name}' is in both 'headers' and 'secret_headers'."
                )
            elif part == "headers" and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
                yield problem_for("header_secret", place, f"The header '{name}' seems to contain a secret.")


def _keep(where: Path, keep: Mapping[str, str], variables: Mapping[str, Variable]) -> Iterator[Problem]:
    for name, pointer in keep.items():
        if name not in variables:
            yield problem_for(
                "keep_variable_undeclared", (*where, name), f"The variable '{name}' is not declared."
            )
        elif variables[name].source != "call":
            message = f"'{name}' has the source `payload`, so a function cannot set it."
            yield problem_for("keep_variable_source", (*where, name), message)
        if not _POINTER.fullmatch(pointer):
            yield problem_for("keep_pointer_invalid", (*where, name), f"'{pointer}' is not a JSON pointer.")


def _sending(where: Path, function: HttpFunction) -> Iterator[Problem]:
    if function.body is not None and function.method in ("GET", "HEAD"):
        yield problem_for("body_unsent", (*where, "body"), f"The body is not sent with {function.method}.")
    if function.wait_text is not None and not function.wait_text.strip():
        yield problem_for("wait_text_empty", (*where, "wait_text"), "The wait text is empty.")
