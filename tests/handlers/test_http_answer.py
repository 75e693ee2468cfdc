"""What comes back: read, kept, and shown to the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.http.answer import NOTE, read, result_for_model, values_to_keep
from handlers.http.errors import StatusRefused, UnreadableAnswer
from handlers.http.request import HttpResponse
from templates.values import MAX_CALL_TEXT
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
def test_result_for_model_is_within_the_limit(answer: Any, limit: int) -> None:
    """The model gets a JSON object within the limit that says when something was left out."""
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
@example(rb"\u0000", "text/html")
def test_any_body_is_read_or_unreadable(body: bytes, content_type: str) -> None:
    """Any bytes are read as storable JSON or raise UnreadableAnswer."""
    try:
        answer = read(reply(body, content_type))
    except UnreadableAnswer:
        assert content_type == "application/json"
        return
    # A backslash of the text is escaped itself.
    assert r"\u0000" not in json.dumps(answer, allow_nan=False).replace(r"\\", "")
    json.dumps(answer, ensure_ascii=False).encode()


def test_long_lists_are_shortened_first() -> None:
    """In a long answer short values are kept, so that a flow can branch on them."""
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
def test_body_is_read_by_its_content_type(body: bytes, content_type: str, answer: Any) -> None:
    """JSON is parsed, text is decoded, other types are named, and unstorable characters are replaced."""
    assert read(reply(body, content_type)) == answer


@pytest.mark.parametrize(
    "body", [b"{", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 200 + b"]" * 200, b"[" * 100_000]
)
def test_invalid_json_is_unreadable(body: bytes) -> None:
    """A body that is declared as JSON and is not valid is unreadable."""
    with pytest.raises(UnreadableAnswer):
        read(reply(body))


def test_incomplete_json_is_unreadable() -> None:
    """JSON that was not read completely is not parsed."""
    with pytest.raises(UnreadableAnswer, match="too long"):
        read(reply(b'{"a": 1}', complete=False))


def test_compressed_body_is_refused() -> None:
    """A compressed body is refused, because its uncompressed size is not limited."""
    with pytest.raises(UnreadableAnswer):
        read(reply(b"\x1f\x8b", content_encoding="gzip"))


@pytest.mark.parametrize("status", [199, 304, 400, 404, 418, 429, 500, 503])
def test_failure_status_is_reported_without_the_body(status: int) -> None:
    """A status other than 2xx is reported, without any text of the body."""
    with pytest.raises(StatusRefused) as failure:
        read(HttpResponse(status=status, body=b"stack trace", content_type="text/plain"))
    assert failure.value.to_result()["code"] == f"http_{status}"
    assert "stack" not in str(failure.value)
    assert failure.value.retryable is (status == 429)


def test_kept_values_have_the_type_of_their_variable() -> None:
    """Values are converted to the type of their variable, wherever they are in the answer."""
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


def test_missing_values_leave_variables_unchanged() -> None:
    """Missing values, values of another type and undeclared variables are left out."""
    variables = [variable("n", "integer"), variable("m"), variable("p")]
    keep = {"n": "/n", "m": "/none/deep", "p": "no pointer", "undeclared": "/n"}
    assert values_to_keep({"n": "forty"}, keep, variables) == {}
    assert values_to_keep("only a text", {"m": "/x"}, variables) == {}
    assert values_to_keep(None, {"m": "/x"}, variables) == {}


def test_kept_values_are_bounded() -> None:
    """A long text of an answer is cut off before it is kept; a large object is not kept."""
    answer = {"note": "word " * 1000, "order": {"text": "x" * 20_000}}
    variables = [variable("note"), variable("order", "object")]
    kept = values_to_keep(answer, {"note": "/note", "order": "/order"}, variables)
    assert kept.keys() == {"note"}
    assert len(kept["note"]) == MAX_CALL_TEXT
