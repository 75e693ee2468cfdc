from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from voicebot.authoring import merged
from voicebot.vault import HIDDEN, SecretUnreadable, Vault, masked, sealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.text())
def test_what_was_sealed_opens_to_itself(secret: str) -> None:
    """Any text is opened as it was sealed, and is not to be seen in between."""
    vault = Vault(Fernet.generate_key())
    stored = vault.seal(secret)
    assert vault.open(stored) == secret
    assert len(secret) < 4 or secret not in stored


def test_another_key_opens_nothing() -> None:
    """A secret sealed with a lost key is an error that says so, not a wrong value."""
    stored = Vault(Fernet.generate_key()).seal("secret")
    with pytest.raises(SecretUnreadable):
        Vault(Fernet.generate_key()).open(stored)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4))
def test_masking_hides_every_secret_and_nothing_else(headers: dict[str, str]) -> None:
    """Sealed and masked, a document has the same header names, no value, and is otherwise unchanged."""
    function: dict[str, Any] = {"type": "http", "name": "f", "url": "https://a", "secret_headers": headers}
    document = {"name": "x", "functions": [{"type": "builtin", "name": "end_call"}, function]}
    fresh = {name: value for name, value in headers.items() if value != HIDDEN}
    stored, lost = sealed(document, Vault(Fernet.generate_key()))
    assert len(lost) == len(headers) - len(fresh)
    shown = masked(stored)
    assert shown["functions"][1]["secret_headers"] == dict.fromkeys(headers, HIDDEN)
    assert shown["functions"][0] == document["functions"][0]
    assert function["secret_headers"] == headers


def test_a_renamed_function_keeps_its_secret() -> None:
    """A function that is only renamed in its place keeps its secret."""
    vault = Vault(Fernet.generate_key())
    before = {"type": "http", "name": "f", "url": "https://a/x", "secret_headers": {"K": "secret"}}
    stored, _ = sealed({"functions": [before]}, vault)
    renamed = {**before, "name": "g", "secret_headers": {"K": HIDDEN}}
    again, lost = sealed({"functions": [renamed]}, vault, stored)
    assert (again["functions"][0]["secret_headers"], lost) == (
        stored["functions"][0]["secret_headers"],
        [],
    )


@pytest.mark.parametrize("url", ["https://a/echo", "https://b/x", "https://a/x?q=1", "http://a/x"])
def test_a_secret_is_bound_to_the_url_it_was_saved_with(url: str) -> None:
    """`***` with another host, path or query is refused with a remedy: the path may repeat the header."""
    vault = Vault(Fernet.generate_key())
    before = {"type": "http", "name": "f", "url": "https://a/x", "secret_headers": {"K": "secret"}}
    stored, _ = sealed({"functions": [before]}, vault)
    moved = {**before, "url": url, "secret_headers": {"K": HIDDEN}}
    again, [problem] = sealed({"functions": [moved]}, vault, stored)
    assert again["functions"][0]["secret_headers"] == {"K": HIDDEN}
    assert (problem.pointer, problem.code) == ("/functions/0/secret_headers/K", "secret_missing")
    assert "when the URL of a function changes" in problem.remedy


def test_a_secret_of_the_old_key_opens_while_the_key_is_rotated() -> None:
    """With `new,old`, old secrets open and new ones are encrypted with the new key."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    stored = Vault(old).seal("secret")
    both = Vault(new, old)
    assert both.open(stored) == "secret"
    assert Vault(new).open(both.seal("other")) == "other"


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    """The examples of RFC 7396, appendix A."""
    assert merged(target, patch) == result


@given(JSON, JSON)
def test_a_patch_applied_twice_changes_nothing_more(target: Any, patch: Any) -> None:
    """Merging is idempotent, and never changes what it was given."""
    once = merged(target, patch)
    assert merged(once, patch) == once
