"""A declaration and its values become a request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http.errors import InvalidArguments, InvalidDeclaration
from handlers.http.request import HttpRequest, Origin, build, origin_of
from tests.handlers.http_harness import http_function, parameters

SAID = st.text(min_size=1, max_size=60)
HOSTILE = st.sampled_from(
    [
        "@evil.test/",
        "//evil.test/x",
        "https://evil.test",
        ":99",
        "#",
        "?admin=1&x",
        "a\r\nHost: evil.test\r\n\r\nGET / HTTP/1.1",
        "\\evil.test",
        "{{ secret }}",
        "%2e%2e%2fadmin",
        "ünïcode 電話 🎉",
        "\ud800",
        "a&b=c;d",
        "x" * 5000,
    ]
)


def request_for(
    arguments: dict[str, Any], variables: dict[str, Any] | None = None, **fields: Any
) -> HttpRequest:
    return build(http_function(**fields), arguments, variables or {}, lambda stored: f"open-{stored}")


@given(said=SAID | HOSTILE, known=SAID | HOSTILE)
def test_values_do_not_change_the_structure(said: str, known: str) -> None:
    """Values do not change scheme, host, port, the number of path segments or the lines of headers."""
    try:
        request = request_for(
            {"said": said},
            {"known": known},
            url="https://api.example.com:8443/v1/{{ said }}/orders?a={{ known }}&b=2",
            query={"q": "{{ said }}"},
            headers={"X-Said": "<{{ said }}>", "X-Known": "{{ known }}"},
            parameters=parameters(said="string"),
        )
    except InvalidArguments:
        assert any(part in (".", "..") for part in said.replace("\\", "/").split("/"))
        return
    assert request.origin == Origin("https", "api.example.com", 8443)
    path, _, query = request.target.partition("?")
    assert request.target.isascii()
    assert [len(path.split("/")), path.split("/")[1], path.split("/")[3]] == [4, "v1", "orders"]
    readable = [text.encode("utf-8", "replace").decode() for text in (said, known)]
    assert unquote(path.split("/")[2]) == readable[0]
    assert parse_qsl(query, keep_blank_values=True) == [("a", readable[1]), ("b", "2"), ("q", readable[0])]
    assert not any(ord(c) < 32 or ord(c) == 127 for _, value in request.headers for c in value)
    assert [name for name, _ in request.headers].count("X-Said") == 1


@pytest.mark.parametrize("said", ["", ".", "..", "../admin", "a/../b", "..\\x", None])
def test_empty_and_dot_segments_are_refused(said: str | None) -> None:
    """An empty value or a dot segment in the path is refused."""
    with pytest.raises(InvalidArguments, match="order"):
        request_for({"order": said}, url="https://api.test/orders/{{ order }}", method="DELETE")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders",
        "//api.test/x",
        "ftp://api.test/x",
        "https://{{ host }}/x",
        "https://user:pw@api.test/",
        "https://api.test:port/",
        "https:///x",
        "https://[::1/",
        "https://0177.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_invalid_url_is_refused(url: str) -> None:
    """A URL without a fixed http host makes no request."""
    with pytest.raises(InvalidDeclaration):
        origin_of(url)


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("https://api.test/x", Origin("https", "api.test", 443), "api.test"),
        ("http://API.test:8080", Origin("http", "api.test", 8080), "api.test:8080"),
        ("https://[2606:4700::1111]:444/", Origin("https", "2606:4700::1111", 444), "[2606:4700::1111]:444"),
        ("https://bücher.example/", Origin("https", "xn--bcher-kva.example", 443), "xn--bcher-kva.example"),
    ],
)
def test_origin_is_normalised(url: str, origin: Origin, host: str) -> None:
    """Names become ASCII, default ports are omitted in Host, and IPv6 addresses have brackets."""
    assert origin_of(url) == origin
    assert origin.host_header() == host


def test_body_keeps_types() -> None:
    """A string that is one placeholder becomes the value with its type; within a longer string it is text."""
    request = request_for(
        {"quantity": 2, "express": True, "note": 'say "hi"\n', "size": None},
        {"order": {"id": 7, "tags": ["a"]}},
        method="POST",
        body={
            "n": "{{ quantity }}",
            "express": "{{express}}",
            "text": "{{ quantity }} × {{ note }}",
            "order": ["{{ order }}", "{{ order.id }}", {"missing": "{{ order.none }}"}],
            "size": "{{ size }}",
            "literal": "\\{{ quantity }}",
            "{{ quantity }}": 1,
        },
    )
    assert request.body is not None
    assert json.loads(request.body) == {
        "n": 2,
        "express": True,
        "text": '2 × say "hi"\n',
        "order": [{"id": 7, "tags": ["a"]}, 7, {"missing": None}],
        "size": None,
        "literal": "{{ quantity }}",
        "{{ quantity }}": 1,
    }
    assert dict(request.headers)["Content-Type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_arguments_are_the_body(method: str) -> None:
    """Without a declared body, POST, PUT and PATCH send the arguments as JSON."""
    request = request_for({"a": "ü", "b": [1]}, method=method, url="https://x.test/p/{{ a }}")
    assert json.loads(request.body or b"") == {"a": "ü", "b": [1]}
    assert request.target == "/p/%C3%BC"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_arguments_are_the_query(method: str) -> None:
    """Other methods send the arguments that are not used elsewhere in the query."""
    request = request_for(
        {"id": "7", "deep": True, "who": "A B&C", "lang": "pl"},
        method=method,
        url="https://x.test/p/{{ id }}?v=1",
        headers={"Accept-Language": "{{ lang }}"},
    )
    assert request.target == "/p/7?v=1&deep=true&who=A%20B%26C"
    assert request.body is None


def test_a_parameter_hides_a_variable_even_when_not_given() -> None:
    """A declared parameter that is not given is not filled from a variable of the same name."""
    request = request_for(
        {}, {"note": "private"}, url="https://x.test/p?n={{ note }}", parameters=parameters(note="string")
    )
    assert request.target == "/p?n="


def test_headers_of_the_author_replace_defaults() -> None:
    """The author's headers replace defaults but not those of the connection; a secret header has
    precedence."""
    request = request_for(
        {},
        headers={"user-agent": "clinic", "Host": "evil.test", "content-length": "0", "X-Key": "public"},
        secret_headers={"x-key": "stored"},
    )
    assert sorted(request.headers) == [
        ("Accept", "application/json, text/*;q=0.9, */*;q=0.1"),
        ("user-agent", "clinic"),
    ]
    assert request.secret_headers == (("x-key", "open-stored"),)
    assert "stored" not in repr(request)


def test_invalid_header_name_is_refused() -> None:
    """A header with an invalid name is refused before anything is sent."""
    with pytest.raises(InvalidDeclaration):
        request_for({}, headers={"X Key\r\nHost": "a"})


def test_timeout_and_retries_are_limited() -> None:
    """Timeout and retries are limited to their ranges, and unsafe methods have no retries."""
    assert request_for({}, timeout_ms=10**9, retries=99).timeout_ms == 30_000
    assert request_for({}, timeout_ms=1, retries=99).retries == 3
    assert request_for({}, method="PUT", retries=3).retries == 0


def test_text_of_the_author_is_encoded_once() -> None:
    """The author's text is encoded in URLs where necessary, and not twice."""
    request = request_for({}, url="https://x.test/a b/%C3%BC/ü?q=a b&r=%26#frag")
    assert request.target == "/a%20b/%C3%BC/%C3%BC?q=a%20b&r=%26"
