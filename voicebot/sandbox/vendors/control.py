"""The control server: configures the other servers, and returns their recorded use, to another process.

- `PUT /phrases` `{"phrases": ["…"]}`: the phrases to recognise; `GET /phrases`; 404 with scripted speech
- `POST /faults` with the fields of `Fault`: activate a fault; `DELETE /faults?server=…`: deactivate
- `POST /answers` `{"answers": ["text" or {"text", "calls": [{"name", "arguments"}], "delay_ms", "fault",
  "fault_stage"}], "user", "system", "tool", "repeat"}`: script the language model as `LlmScript.answer` does;
  `GET /answers`: `{"remaining": n}`; `DELETE /answers`: remove the script
- `PATCH /latency` with fields of `Latency`
- `GET /usage?server=…&key=…`: a `Tally`, and one `by_key` for each voice or model; `DELETE /usage`
- `GET /connections?server=…&key=…`: websockets with their times; `DELETE`: abort the open ones
- `GET /requests?server=…&key=…`: the requests
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from aiohttp import web
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from voicebot.sandbox.speech.grammar import PhraseGrammar
from voicebot.sandbox.speech.recogniser import RecogniserPool
from voicebot.sandbox.vendors.faults import Fault, Faults, Kind, Server, Stage
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.script import Answer, LlmScript
from voicebot.sandbox.vendors.usage import Usage
from voicebot.sandbox.vendors.vendor import parse_object

SERVERS: tuple[Server, ...] = get_args(Server)
_CHOICES: dict[str, tuple[Any, ...]] = {
    "server": SERVERS,
    "kind": get_args(Kind),
    "stage": get_args(Stage),
}


class _Posted(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Call(_Posted):
    name: str
    arguments: dict[str, Any] = {}


class _Answer(_Posted):
    text: str = ""
    calls: list[_Call] = []
    delay_ms: NonNegativeFloat = 0.0
    fault: Kind | None = None
    fault_stage: Stage = "connect"

    def answer(self) -> Answer:
        calls = [(call.name, call.arguments) for call in self.calls]
        return Answer(
            text=self.text,
            calls=calls,
            delay_ms=self.delay_ms,
            fault=self.fault,
            fault_stage=self.fault_stage,
        )


class _Script(_Posted):
    answers: list[_Answer | str]
    user: str = ""
    system: str = ""
    tool: str = ""
    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control server."""

    faults: Faults
    usage: Usage
    latency: Latency
    recognisers: RecogniserPool | None
    script: LlmScript

    def application(self) -> web.Application:
        """Return the server as an application."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/phrases", self._get_phrases),
                web.put("/phrases", self._put_phrases),
                web.post("/faults", self._post_fault),
                web.delete("/faults", self._delete_faults),
                web.post("/answers", self._post_answers),
                web.get("/answers", self._get_answers),
                web.delete("/answers", self._delete_answers),
                web.patch("/latency", self._patch_latency),
                web.get("/usage", self._get_usage),
                web.delete("/usage", self._delete_usage),
                web.get("/connections", self._records(self.usage.connections)),
                web.delete("/connections", self._delete_connections),
                web.get("/requests", self._records(self.usage.requests)),
            ]
        )
        return application

    async def _get_phrases(self, _request: web.Request) -> web.Response:
        return web.json_response({"phrases": list(self._pocketsphinx().phrases)})

    def _pocketsphinx(self) -> RecogniserPool:
        if self.recognisers is None:
            raise web.HTTPNotFound(text="speech is scripted: there are no phrases")
        return self.recognisers

    async def _put_phrases(self, request: web.Request) -> web.Response:
        phrases = (await _body(request)).get("phrases")
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise web.HTTPUnprocessableEntity(text="phrases must be a list of strings")
        await teach(self._pocketsphinx(), phrases)
        return await self._get_phrases(request)

    async def _post_fault(self, request: web.Request) -> web.Response:
        body = await _body(request)
        for name, choices in _CHOICES.items():
            if name in body and body[name] not in choices:
                raise web.HTTPUnprocessableEntity(text=f"{name} must be one of {', '.join(choices)}")
        try:
            self.faults.add(Fault(**body))
        except TypeError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None
        return web.json_response(body, status=201)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self.faults.clear(_server(request))
        return web.Response(status=204)

    async def _post_answers(self, request: web.Request) -> web.Response:
        try:
            posted = _Script.model_validate(await _body(request))
        except ValidationError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None
        self.script.answer(
            *(each if isinstance(each, str) else each.answer() for each in posted.answers),
            user=posted.user,
            system=posted.system,
            tool=posted.tool,
            repeat=posted.repeat,
        )
        return await self._get_answers(request)

    async def _get_answers(self, _request: web.Request) -> web.Response:
        return web.json_response({"remaining": self.script.remaining})

    async def _delete_answers(self, _request: web.Request) -> web.Response:
        self.script.clear()
        return web.Response(status=204)

    async def _patch_latency(self, request: web.Request) -> web.Response:
        known = {field.name for field in fields(Latency)}
        for name, value in (await _body(request)).items():
            if name not in known or not isinstance(value, int | float) or value < 0:
                raise web.HTTPUnprocessableEntity(text=f"{name}: a number of ms for one of {sorted(known)}")
            setattr(self.latency, name, float(value))
        return web.json_response(asdict(self.latency))

    async def _get_usage(self, request: web.Request) -> web.Response:
        server, key = _server(request), request.query.get("key")
        by_key = {name: asdict(self.usage.tally(server, name)) for name in self.usage.keys(server)}
        return web.json_response({**asdict(self.usage.tally(server, key)), "by_key": by_key})

    async def _delete_usage(self, _request: web.Request) -> web.Response:
        self.usage.clear()
        return web.Response(status=204)

    async def _delete_connections(self, request: web.Request) -> web.Response:
        server, key = _server(request), request.query.get("key")
        severed = sum(self.usage.sever(each, key) for each in SERVERS if server in (None, each))
        return web.json_response({"severed": severed})

    def _records(
        self, read: Callable[[Server | None, str | None], list[Any]]
    ) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.Response:
            records = read(_server(request), request.query.get("key"))
            return web.json_response({"items": [asdict(record) for record in records]})

        return answer


async def teach(recognisers: RecogniserPool, phrases: list[str]) -> None:
    """Recognise these phrases, and no others, from the next utterance on."""

    def learn() -> None:
        recognisers.teach(PhraseGrammar.of(phrases))

    await asyncio.to_thread(learn)


def _server(request: web.Request) -> Server | None:
    wanted = request.query.get("server")
    server = next((server for server in SERVERS if server == wanted), None)
    if wanted is not None and server is None:
        raise web.HTTPUnprocessableEntity(text=f"server must be one of {', '.join(SERVERS)}")
    return server


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        return parse_object(await request.text())
    except ValueError:
        raise web.HTTPUnprocessableEntity(text="a JSON object is expected") from None
