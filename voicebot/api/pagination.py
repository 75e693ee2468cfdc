"""Lists: pages with a cursor, in the same form for every resource."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from db.rows import MAX_LIMIT, Page

ItemT = TypeVar("ItemT")

DEFAULT_LIMIT = 50


class PageQuery(BaseModel):
    """What every list takes; a list's own filters are added in a subclass. Unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most items to answer with.")] = (
        DEFAULT_LIMIT
    )
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = (
        None
    )


class PageOf(BaseModel, Generic[ItemT]):
    """One page, newest first."""

    model_config = ConfigDict(from_attributes=True)

    items: list[ItemT]
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last page.")

    @classmethod
    def of(cls, page: Page[ItemT]) -> Self:
        """A page of records, as the API answers it."""
        return cls(items=list(page.items), next_cursor=page.next_cursor)


def streamed(page: Page[ItemT], to_json: Callable[[ItemT], str | bytes]) -> StreamingResponse:
    """The answer for a page whose items may be large, sent item by item: as a whole it may have 50 MB.

    Args:
        page: the page.
        to_json: an item as JSON.
    """

    async def parts() -> AsyncIterator[str | bytes]:
        yield '{"items":['
        for index, item in enumerate(page.items):
            if index:
                yield ","
            yield to_json(item)
            await asyncio.sleep(0)
        yield f'],"next_cursor":{json.dumps(page.next_cursor)}}}'

    return StreamingResponse(parts(), media_type="application/json")


def answer(items: list[Any], next_cursor: str | None) -> dict[str, Any]:
    """A page as JSON values."""
    return {"items": items, "next_cursor": next_cursor}
