"""An account behind a server's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from templates.problem import Problem
from voicebot.sync.account import Refused, SaveResult, StoredTemplate, Unreachable

_TIMEOUT_S = 60.0


class ApiAccount:
    """The account of an API key."""

    def __init__(self, url: str, key: str) -> None:
        """Use the server at ``url`` (without ``/api/v1``) with an API key."""
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=f"{self._url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @property
    def place(self) -> str:
        """See ``Account``."""
        return self._url

    async def templates(self) -> Sequence[StoredTemplate]:
        """See ``Account``."""
        answer = await self._request("GET", "/templates/export", params={"revisions": "true"})
        revisions = answer["expect"]
        return [
            StoredTemplate(name=each["name"], revision=revisions[each["name"]], document=each)
            for each in answer["templates"]
        ]

    async def save(
        self, documents: Sequence[Any], expect: Mapping[str, int | None], *, dry_run: bool
    ) -> Sequence[SaveResult]:
        """See ``Account``."""
        answer = await self._request(
            "POST",
            "/templates/import",
            params={"dry_run": str(dry_run).lower()},
            json={"templates": list(documents), "expect": dict(expect)},
        )
        return [
            SaveResult(
                name=each["name"],
                action=each["action"],
                revision=each["revision"],
                problems=len(each["problems"]),
            )
            for each in answer["templates"]
        ]

    async def delete(self, name: str, revision: int) -> None:
        """See ``Account``."""
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await self._request("GET", "/templates", params={"name": name, "limit": "200", **more})
            for each in page["items"]:
                if each["name"] == name:
                    headers = {"If-Match": f'"{revision}"'}
                    await self._request("DELETE", f"/templates/{each['id']}", headers=headers)
                    return
            cursor = page["next_cursor"]
            if cursor is None:
                raise Refused(f"'{name}' was not deleted: the template no longer exists.")

    async def _request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, **request)
            answer: Any = response.json() if response.content else {}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self._url} cannot be reached: {error or type(error).__name__}") from None
        except ValueError:
            raise Unreachable(f"{self._url} is not a voicebot server: its answer is not JSON.") from None
        if response.is_success and isinstance(answer, dict):
            return answer
        problem = answer if isinstance(answer, dict) else {}
        problems = [
            Problem(
                pointer=each["pointer"], code=each["code"], message=each["message"], remedy=each["remedy"]
            )
            for each in problem.get("errors", ())
        ]
        raise Refused(problem.get("detail") or f"{self._url} answered {response.status_code}.", problems)
