"""Records of the database as answers of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from voicebot.api.answers import AnswerOf, extended
from voicebot.app import create_app
from voicebot.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row, or None."""

    account_id: int
    from_number: str | None
    """``E.164``; None if withheld."""

    @property
    def digits(self) -> int:
        """Number of digits."""
        return len(self.from_number or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordWithState(Record):
    """One row and its state."""

    state: str
    """What is going on."""


OPTIONS = AnswerOf(
    "Row", aliases={"from_number": "from"}, properties=("digits",), examples={"from_number": "+1"}
)
Answer = Annotated[Record, OPTIONS]
AnswerWithState = Annotated[RecordWithState, OPTIONS]


def test_a_record_is_answered_without_its_omitted_fields() -> None:
    """Omitted fields are absent, aliases are the names in JSON, and properties are included."""
    adapter: TypeAdapter[Record] = TypeAdapter(Answer)
    value = adapter.validate_python(Record(account_id=1, from_number="123"))
    assert adapter.dump_python(value, by_alias=True) == {"from": "123", "digits": 3}


def test_docstrings_become_descriptions() -> None:
    """The schema has the docstrings of class, fields (inherited ones too) and properties."""
    schema = TypeAdapter(AnswerWithState).json_schema()
    assert (schema["title"], schema["description"]) == ("Row", "One row and its state.")
    assert {name: field["description"] for name, field in schema["properties"].items()} == {
        "from": "`E.164`; null if withheld.",
        "state": "What is going on.",
        "digits": "Number of digits.",
    }
    assert schema["properties"]["from"]["examples"] == ["+1"]


def test_a_record_can_be_extended() -> None:
    """``extended`` copies the values of the record and adds others."""
    record = Record(account_id=1, from_number=None)
    expected = RecordWithState(account_id=1, from_number=None, state="new")
    assert extended(RecordWithState, record, state="new") == expected


@pytest.mark.parametrize("internal", ["account_id", "key_hash", "deleted_at", "idempotency_key"])
def test_no_answer_contains_internal_fields(internal: str) -> None:
    """No schema of an answer in the OpenAPI document has a field that is internal to the server."""
    schemas = create_app(Settings()).openapi()["components"]["schemas"]
    assert [name for name, schema in schemas.items() if internal in schema.get("properties", {})] == []
