"""Rules about HTTP functions: where they may go, what they send, what is asked and what is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from jsonschema import Draft202012Validator

from templates.addresses import is_internal_name, is_public, literal_address
from templates.bounds import TOOL_NAME
from templates.check.context import CheckContext
from templates.check.rules import broken
from templates.functions import HttpFunction
from templates.model import TemplateContent, Variable
from templates.parameters import Fault, declared_parameters, read_parameters
from templates.problem import Problem

Path = tuple[str | int, ...]

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
_UNUSABLE: Mapping[Fault, tuple[str, str]] = {
    "remote": ("parameters_remote", "The schema refers to something outside of itself."),
    "unknown": ("parameters_reference_unknown", "There is no part '{}' in the schema."),
    "endless": (
        "parameters_endless",
        "'{}' leads back to itself, or to more parts than a model can be shown.",
    ),
    "pattern": ("parameters_pattern_unsupported", "'{}' cannot be matched in bounded time."),
    "names": ("parameters_names_unsupported", "A model is not shown patterns of names."),
}
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


def check_http(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Every HTTP function of the template."""
    variables = {variable.name: variable for variable in content.variables}
    for index, function in enumerate(content.functions):
        if isinstance(function, HttpFunction):
            where = ("functions", index)
            yield from _url((*where, "url"), function.url, around)
            yield from _parameters((*where, "parameters"), function.parameters, variables)
            yield from _headers(where, function)
            yield from _keep((*where, "keep"), function.keep, variables)
            yield from _sending(where, function)


def _url(where: Path, url: str, around: CheckContext) -> Iterator[Problem]:
    if not url.strip():
        yield broken("url_missing", where, "The function has no URL.")
        return
    parts = _split(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        yield broken("url_invalid", where, "This is not a whole http or https address.")
        return
    if "{{" in parts.netloc:
        yield broken(
            "url_host_templated", where, "The host must not depend on what a caller or a payload says."
        )
        return
    if "@" in parts.netloc:
        yield broken("url_credentials", where, "The address carries a user name or a password.")
    if not parts.hostname or _port(parts) is None:
        yield broken("url_invalid", where, "The address has no host, or a bad port.")
        return
    if f"{parts.hostname}:{_port(parts)}" in around.http_allow:
        return
    if _is_private(parts.hostname):
        yield broken("url_private_address", where, f"'{parts.hostname}' is not on the open internet.")
    elif parts.scheme == "http":
        yield broken("url_insecure", where, "The address is not encrypted.")


def _split(url: str) -> SplitResult | None:
    if url != url.strip() or re.search(r"[\s\x00-\x1f\\]", re.sub(r"\{\{.*?\}\}", "", url)):
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
    faults = _schema_faults(json.dumps(schema, sort_keys=True))
    for path in faults:
        part = ".".join(map(str, path))
        message = f"'{part}' is not valid JSON Schema." if part else "This is not valid JSON Schema."
        yield broken("parameters_invalid", (*where, *path), message)
    if schema.get("type") != "object" and ("type",) not in faults:
        yield broken(
            "parameters_not_object", (*where, "type"), "Arguments are an object: 'type' is 'object'."
        )
    for fault in read_parameters(schema).faults:
        code, message = _UNUSABLE[fault.kind]
        yield broken(code, (*where, *fault.path), message.format(fault.text))
    if faults:
        return
    properties, required = declared_parameters(schema)
    for name, inner in properties.items():
        yield from _parameter((*where, "properties", name), name, inner, variables)
    for index, name in enumerate(required):
        if name not in properties:
            message = f"'{name}' is required, but not among the properties."
            yield broken("parameter_undefined", (*where, "required", index), message)


@lru_cache(maxsize=1024)
def _schema_faults(schema: str) -> tuple[Path, ...]:
    """Places where a schema (as JSON) is none. Kept: it takes 1.6 ms, and most saves change no schema."""
    return tuple(tuple(fault.absolute_path) for fault in _METASCHEMA.iter_errors(json.loads(schema)))


def _parameter(where: Path, name: str, schema: Any, variables: Mapping[str, Variable]) -> Iterator[Problem]:
    if not TOOL_NAME.fits(name):
        yield broken("parameter_name_invalid", where, f"'{name}' is not a name a model can fill in.")
    if not isinstance(schema, Mapping) or not str(schema.get("description", "")).strip():
        yield broken("parameter_undescribed", where, f"The model is not told what '{name}' is.")
    if name in variables:
        message = f"'{name}' is a parameter here and a variable of the template."
        yield broken("parameter_shadows_variable", where, message)


def _headers(where: Path, function: HttpFunction) -> Iterator[Problem]:
    secret = {name.lower() for name in function.secret_headers}
    for part in ("headers", "secret_headers"):
        headers: Mapping[str, str] = getattr(function, part)
        for name, value in headers.items():
            place = (*where, part, name)
            if not _HEADER.fullmatch(name) or "\n" in value or "\r" in value:
                yield broken("header_invalid", place, f"'{name}' is not a header that can be sent.")
            elif name.lower() in _RESERVED_HEADERS:
                yield broken("header_reserved", place, f"'{name}' is not the author's to set.")
            elif part == "headers" and name.lower() in secret:
                yield broken("header_duplicate", place, f"'{name}' stands in 'secret_headers' too.")
            elif part == "headers" and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
                yield broken("header_secret", place, f"'{name}' looks like a secret.")


def _keep(where: Path, keep: Mapping[str, str], variables: Mapping[str, Variable]) -> Iterator[Problem]:
    for name, pointer in keep.items():
        if name not in variables:
            yield broken("keep_variable_undeclared", (*where, name), f"There is no variable '{name}'.")
        elif variables[name].source != "call":
            message = f"'{name}' comes with the payload and cannot be changed by a function."
            yield broken("keep_variable_source", (*where, name), message)
        if not _POINTER.fullmatch(pointer):
            yield broken("keep_pointer_invalid", (*where, name), f"'{pointer}' is not a JSON pointer.")


def _sending(where: Path, function: HttpFunction) -> Iterator[Problem]:
    if function.body is not None and function.method in ("GET", "HEAD"):
        yield broken("body_unsent", (*where, "body"), f"{function.method} sends no body.")
    if function.wait_text is not None and not function.wait_text.strip():
        yield broken("wait_text_empty", (*where, "wait_text"), "There is nothing to say in it.")
