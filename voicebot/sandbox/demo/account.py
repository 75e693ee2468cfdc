"""The author's requests to the API: creates a number and the templates of the three agents."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import httpx
import yaml

from voicebot.sandbox.demo.backend import Backend

ACCOUNT = "Acme Heating"
ORCHESTRATOR = "front_desk"
_AGENTS = ("billing", "technicians")


class Refused(RuntimeError):
    """The API refused a request; the message has its answer, with the problems and their pointers."""


class Api:
    """The HTTP API with an account's key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self.key = key
        self._client = httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=20.0,
            # An idle connection is given up before the server closes it.
            limits=httpx.Limits(keepalive_expiry=1.0),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def with_key(self, key: str) -> Api:
        """The API with another key."""
        return Api(self._url, key)

    async def get(self, path: str) -> dict[str, Any]:
        """Read a resource.

        Raises:
            Refused: the status is no success, or there is no answer.
        """
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a resource.

        Raises:
            Refused: the status is no success, or there is no answer.
        """
        return await self._ask("POST", path, body)

    async def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a resource.

        Raises:
            Refused: the status is no success, or there is no answer.
        """
        return await self._ask("PUT", path, body)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Refused(f"{method} {path}: {type(error).__name__}") from error
        if response.is_error:
            raise Refused(f"{method} {path}: {response.status_code} {response.text[:2000]}")
        return dict(response.json())


async def build(api: Api, number: str, backend: Backend, carrier: str = "twilio") -> dict[str, str]:
    """Create the number, the agents and the orchestrator, or bring those of an earlier demo up to date.

    Returns:
        File name → template id.
    """
    known = (await api.get("/numbers?limit=200"))["items"]
    if number not in {each["e164"] for each in known}:
        await api.post("/numbers", {"e164": number, "carrier": carrier, "label": ACCOUNT})
    documents = {name: document(name, backend) for name in (*_AGENTS, ORCHESTRATOR)}
    documents[ORCHESTRATOR]["number"] = number
    saved = await api.post("/templates/import", {"templates": list(documents.values())})
    ids = {each["name"]: each["id"] for each in saved["templates"]}
    return {name: ids[each["name"]] for name, each in documents.items()}


def document(name: str, backend: Backend) -> dict[str, Any]:
    """Read the file of a template, and set the address and the token of the backend in its functions."""
    template = written(name)
    for function in template.get("functions", ()):
        if function["type"] == "http":
            function["url"] = function["url"].replace("https://office.example", f"http://{backend.address}")
            function["secret_headers"] = {"Authorization": f"Bearer {backend.token}"}
    return template


def written(name: str, folder: str = "templates") -> dict[str, Any]:
    """Read the file of a template as its author wrote it."""
    text = files(__package__).joinpath(folder, f"{name}.yaml").read_text(encoding="utf-8")
    template: dict[str, Any] = yaml.safe_load(text)
    return template
