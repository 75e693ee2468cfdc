"""What comes back: read, kept, and shown to the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http.answer import NOTE, read, result_for_model, values_to_keep
from handlers.http.errors import StatusRefused, UnreadableAnswer
from handlers.http.request import HttpResponse
from tests.handlers.http_harness import variable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=60) | st.dictionaries(st.text(max_size=80), inner, max_size=60),
    max_leaves=120,
)


def reply(body: bytes, content_type: str = "application/json", **fields: Any) -> HttpResponse:
    return HttpResponse(status=200, content_type=content_type, body=body, **fields)


def size(result: Any) -> int:
    return len(json.dumps(result, ensure_ascii=False).encode())


@given(JSON, st.integers(0, 4000))
def test_what_the_model_is_given_fits(answer: Any, limit: int) -> None:
    """The model gets a JSON object within the limit, which says when something is missing."""
    result = result_for_model(answer, limit)
    assert size(result) <= max(limit, 256)
    assert result
    if isinstance(answer, dict) and size(answer) <= max(limit, 256):
        assert result == answer or answer == {}
    elif size(answer) > max(limit, 256):
        assert result["truncated"] == NOTE


@given(
    st.binary(max_size=300),
    st.sampled_from(["application/json", "text/plain; charset=utf-16", "text/html", ""]),
)
def test_any_bytes(body: bytes, content_type: str) -> None:
    """Any bytes are JSON that can be stored and sent on, or unreadable."""
    try:
        answer = read(reply(body, content_type))
    except UnreadableAnswer:
        assert content_type == "application/json"
        return
    assert "\\u0000" not in json.dumps(answer, allow_nan=False)
    json.dumps(answer, ensure_ascii=False).encode()


def test_long_lists_are_shortened_first() -> None:
    """An answer too long keeps its short facts, so that a flow can still branch on them."""
    answer = {"found": True, "items": [{"text": "x" * 100, "n": n} for n in range(300)], "total": 300}
    result = result_for_model(answer, 2048)
    assert (result["found"], result["total"], result["truncated"]) == (True, 300, NOTE)
    assert result["items"][0]["n"] == 0
    assert result["items"][-1].endswith("more")


@pytest.mark.parametrize(
    ("body", "content_type", "answer"),
    [
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', "application/problem+json", {"a": 1}),
        (b"[1, 2]", "text/plain", [1, 2]),
        (b"[not json", "text/plain", "[not json"),
        ("größe".encode("latin-1"), "text/plain; charset=iso-8859-1", "größe"),
        ("größe".encode(), "text/plain; charset=klingon", "größe"),
        (b"a-b", "text/plain; charset=punycode", "a-b"),
        (b"{}", "application/json", {}),
        (b"\x89PNG", "image/png", "(image/png, not shown)"),
        (b"", "application/json", None),
        (rb'{"a": "x\ud800y\u0000z"}', "application/json", {"a": "x?yz"}),
    ],
)
def test_reading(body: bytes, content_type: str, answer: Any) -> None:
    """JSON is parsed, text is decoded, the rest is named; what cannot be stored is replaced."""
    assert read(reply(body, content_type)) == answer


@pytest.mark.parametrize(
    "body", [b"{", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 200 + b"]" * 200, b"[" * 100_000]
)
def test_bad_json(body: bytes) -> None:
    """What claims to be JSON and is not is unreadable."""
    with pytest.raises(UnreadableAnswer):
        read(reply(body))


def test_json_that_was_not_read_to_its_end() -> None:
    """Half a JSON document is not looked at."""
    with pytest.raises(UnreadableAnswer, match="too long"):
        read(reply(b'{"a": 1}', complete=False))


def test_compressed_though_not_asked() -> None:
    """A compressed answer is refused, because its size is not bounded by what was read."""
    with pytest.raises(UnreadableAnswer):
        read(reply(b"\x1f\x8b", content_encoding="gzip"))


@pytest.mark.parametrize("status", [199, 304, 400, 404, 418, 429, 500, 503])
def test_statuses_of_failure(status: int) -> None:
    """A status that is not success is named, and nothing of the body is."""
    with pytest.raises(StatusRefused) as failure:
        read(HttpResponse(status=status, body=b"stack trace", content_type="text/plain"))
    assert failure.value.to_result()["code"] == f"http_{status}"
    assert "stack" not in str(failure.value)
    assert failure.value.retryable is (status == 429)


def test_keeping() -> None:
    """Values are kept in their declared types, wherever they stand in the answer."""
    variables = [
        variable("n", "integer"),
        variable("when", "date"),
        variable("all", "object"),
        variable("gone"),
    ]
    answer = {"a/b": [{"n": "42"}], "when": "2026-03-01T10:00:00", "gone": None}
    keep = {"n": "/a~1b/0/n", "when": "/when", "all": "", "gone": "/gone"}
    assert values_to_keep(answer, keep, variables) == {
        "n": 42,
        "when": "2026-03-01",
        "all": answer,
        "gone": None,
    }


def test_nothing_to_keep() -> None:
    """What is not there, is of another type or is not declared leaves the variable alone."""
    variables = [variable("n", "integer"), variable("m"), variable("p")]
    keep = {"n": "/n", "m": "/none/deep", "p": "no pointer", "undeclared": "/n"}
    assert values_to_keep({"n": "forty"}, keep, variables) == {}
    assert values_to_keep("only a text", {"m": "/x"}, variables) == {}
    assert values_to_keep(None, {"m": "/x"}, variables) == {}
