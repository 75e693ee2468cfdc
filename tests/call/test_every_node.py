"""Whole templates survive a text call through every node, every function and every route."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from loguru import logger
from pipecat.services.llm_service import LLMService

from db.ids import new_id
from db.revisions import TemplateSnapshot
from handlers.registry import HANDLERS
from templates.model import TemplateContent
from tests.templates.flow_harness import Call, Say, ScriptedModel
from tests.templates.sample_accounts import (
    ORCHESTRATOR_ID,
    Document,
    SampleAccount,
    make_account,
    sample_accounts,
)
from voicebot.call.text.answers import Answer, PreparedHttp
from voicebot.call.text.chat import Chat, Setup
from voicebot.call.text.exchange import Exchange
from voicebot.providers.llm_failover import LlmWatch
from voicebot.providers.service_spec import ServiceSpec, made

EXAMPLES = 15
ACCOUNT = new_id()
LINE = "Here we are."
PAYLOAD = {"customer": "Ada {{ x }}", "order": {"size": "large"}}
ARGUMENTS = {"number": "12"}


@pytest.fixture(autouse=True)
def quiet_engine() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


@dataclass(frozen=True)
class Edge:
    """One way on from a node: the function to call, what its server answers, and where that leads."""

    node: str
    function: str
    status: str | None
    to: str


@dataclass
class Prompter:
    """A model that does what the walk wants next; what the servers answer follows the walk too."""

    script: list[Say | Call] = field(default_factory=list)
    status: str | None = None

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        model = ScriptedModel([])
        model.script = self.script
        return ServiceSpec(key=f"mind of {content.name}", make=made(model), connected=at_once), model

    def answers(self, names: Sequence[str]) -> Mapping[str, Sequence[Answer]]:
        return {name: [Answer(body={"status": self.status})] for name in names}


async def at_once() -> None:
    return None


@dataclass(frozen=True)
class SceneLibrary:
    """The templates of a scene."""

    scene: SampleAccount

    def _snapshot(self, key: str) -> TemplateSnapshot:
        document = self.scene.documents[key]
        return TemplateSnapshot(
            id=UUID(key),
            account_id=ACCOUNT,
            name=document["name"],
            kind=document["kind"],
            status="draft",
            revision=1,
            content={**document, "functions": known(document), "status": "draft"},
        )

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        return self._snapshot(str(template_id))

    async def targets(self, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateSnapshot]:
        return {each: self._snapshot(str(each)) for each in template_ids}

    async def time_zone(self, snapshot: TemplateSnapshot) -> ZoneInfo:
        return ZoneInfo("UTC")


def known(document: Document) -> list[Document]:
    """The functions of a template that this server has, as the check of a server asks for."""
    return [each for each in document["functions"] if each["type"] == "http" or each["name"] in HANDLERS]


def edges(document: Document) -> list[Edge]:
    """All ways through a template's flow; none leaves a node that ends the call."""
    found: list[Edge] = []
    for node, content in (document["flow"] or {"nodes": {}})["nodes"].items():
        if content.get("post_actions"):
            continue
        for function in content["functions"]:
            name, to = function["name"], function["transition_to"]
            if isinstance(to, dict):
                found += [Edge(node, name, status, target) for status, target in to["cases"].items()]
                found.append(Edge(node, name, "else", to["default"]))
            else:
                found.append(Edge(node, name, "ok", to or node))
    return found


def ends(document: Document, node: str) -> bool:
    return bool(document["flow"]["nodes"][node].get("post_actions"))


def way(document: Document, ways: Sequence[Edge], start: str, wanted: set[Edge]) -> list[Edge]:
    """The shortest way from a node that takes one of the wanted edges; empty when there is none."""
    waiting: deque[tuple[str, list[Edge]]] = deque([(start, [])])
    seen = {start}
    while waiting:
        node, walked = waiting.popleft()
        for edge in (each for each in ways if each.node == node):
            if edge in wanted:
                return [*walked, edge]
            if edge.to not in seen and not ends(document, edge.to):
                seen.add(edge.to)
                waiting.append((edge.to, [*walked, edge]))
    return []


@dataclass
class Walker:
    """Makes text calls in a scene, and looks at every turn of them."""

    scene: SampleAccount
    nodes: set[tuple[str, str]] = field(default_factory=set)

    async def call(self, prompter: Prompter, key: str) -> Chat:
        """A call that has just begun, with the greeting."""
        names = [
            each["name"]
            for each in self.scene.documents[ORCHESTRATOR_ID]["functions"]
            if each["type"] == "http"
        ]
        setup = Setup(
            library=SceneLibrary(self.scene),
            llm=prompter.llm,
            http=lambda log: PreparedHttp(Late(prompter, names), log.unanswered),
            payload=PAYLOAD,
            turn_timeout_s=10.0,
        )
        chat, opening = await Chat.begin(setup, UUID(key))
        self.look(chat, opening)
        assert opening.replies[0].source == "greeting"
        return chat

    def look(self, chat: Chat, exchange: Exchange) -> None:
        """Nothing failed, something was said; remember where we have been."""
        assert exchange.failures == []
        assert exchange.replies, exchange
        self.nodes |= {(str(s.at.template_id), s.at.node or "") for s in exchange.steps}
        if chat.is_over:
            assert chat.end is not None
            assert chat.end.reason == "flow_finished"

    async def through(self, key: str, chat: Chat, prompter: Prompter, left: set[Edge]) -> None:
        """Walk through a flow for as long as the call lasts, by ways not yet taken."""
        document = self.scene.documents[key]
        ways = edges(document)
        at = document["flow"]["initial_node"]
        while not chat.is_over and (path := way(document, ways, at, left)):
            for edge in path:
                prompter.script[:] = [(edge.function, ARGUMENTS), LINE]
                prompter.status = edge.status
                exchange = await chat.say("Go on, please.")
                self.look(chat, exchange)
                stays = edge.function in {f["name"] for f in known(document)} and not goes(document, edge)
                assert exchange.nodes == ([] if stays else [edge.to]), edge
                assert exchange.replies[-1].text == LINE
                assert chat.is_over is (not stays and ends(document, edge.to))
                left.discard(edge)
                at = edge.to
        if not chat.is_over:
            await chat.hang_up()

    async def everywhere(self) -> None:
        """Every way through the orchestrator's flow; every route, and every way through its agent's flow."""
        left = set(edges(self.scene.documents[ORCHESTRATOR_ID]))
        while left:
            before = len(left)
            prompter = Prompter()
            await self.through(ORCHESTRATOR_ID, await self.call(prompter, ORCHESTRATOR_ID), prompter, left)
            assert len(left) < before, left
        for route in self.scene.documents[ORCHESTRATOR_ID]["routes"]:
            await self.agent(route)

    async def agent(self, route: Document) -> None:
        key = route["template_id"]
        left = set(edges(self.scene.documents[key]))
        while True:
            prompter = Prompter()
            chat = await self.call(prompter, ORCHESTRATOR_ID)
            arguments = {"agent": route["name"], "variables": {"reason": "a {{ reason }}"}}
            prompter.script[:] = [("route_to_agent", arguments)]
            routed = await chat.say("Somebody else, please.")
            self.look(chat, routed)
            assert [(step.name, step.status) for step in routed.routes] == [(route["name"], "done")]
            assert routed.replies[-1].text == "Hello Ada {{ x }}, you called about a {{ reason }}?"
            if self.scene.documents[key]["flow"] is None:
                await self.back(chat, prompter, may=route["can_return"])
                return
            before = len(left)
            await self.through(key, chat, prompter, left)
            if not left:
                return
            assert len(left) < before, left

    async def back(self, chat: Chat, prompter: Prompter, *, may: bool) -> None:
        """An agent in one step answers, and gives the caller back if it may."""
        prompter.script[:] = [LINE]
        self.look(chat, await chat.say("What can you do?"))
        if may:
            prompter.script[:] = [("route_to_agent", {"agent": "back"}), LINE]
            exchange = await chat.say("Take me back.")
            self.look(chat, exchange)
            assert chat.log.at is not None
            assert str(chat.log.at.template_id) == ORCHESTRATOR_ID
        await chat.hang_up()


class Late(dict[str, Sequence[Answer]]):
    """Answers that are made when they are asked for."""

    def __init__(self, prompter: Prompter, names: Sequence[str]) -> None:
        self._prompter = prompter
        super().__init__(dict.fromkeys(names, ()))

    def get(self, name: str, default: Any = None) -> Any:
        return self._prompter.answers(list(self)).get(name, default)


def goes(document: Document, edge: Edge) -> bool:
    """Whether the function leads anywhere at this node."""
    functions = document["flow"]["nodes"][edge.node]["functions"]
    return any(each["name"] == edge.function and each["transition_to"] for each in functions)


def nodes_of(scene: SampleAccount) -> set[tuple[str, str]]:
    """All nodes of all templates."""
    return {
        (key, node)
        for key, document in scene.documents.items()
        for node in (document["flow"]["nodes"] if document["flow"] else ["prompt"])
    }


def nodes_spoken_at(scene: SampleAccount) -> set[tuple[str, str]]:
    """The nodes at which an agent spoke in calls that go every way there is."""
    walker = Walker(scene)
    asyncio.run(walker.everywhere())
    return walker.nodes


def test_the_smallest_scene_survives_a_call_through_every_node() -> None:
    """A small account's agents speak at every node, follow every transition and take every route."""
    scene = make_account()
    assert nodes_of(scene) <= nodes_spoken_at(scene)


@pytest.mark.long
@pytest.mark.timeout(300)
@settings(
    # A failing account is a story of a hundred turns: telling it again and again to shorten it takes minutes.
    phases=(Phase.reuse, Phase.generate),
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scene=sample_accounts())
def test_whole_templates_survive_a_text_call_through_every_node(scene: SampleAccount) -> None:
    """Whatever a template without a fault looks like: a text call comes through each node, way and route."""
    assert nodes_of(scene) <= nodes_spoken_at(scene)
