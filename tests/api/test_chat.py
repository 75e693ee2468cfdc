"""POST /templates/{id}/chat: an author's text call, with a model that speaks the vendor's protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from loguru import logger

from db.pool import Database
from tests.api.server_fixture import RunningServer, Tenant, create, create_tenant, metric, serving
from voicebot.call.text.chats import Chats, Limits
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.vendors.faults import Fault

BILL = "I have a question about my bill."


@pytest.fixture(scope="module")
async def shared_sandbox() -> AsyncIterator[Sandbox]:
    logger.disable("pipecat")
    async with Sandbox(scripted_speech=True) as it:
        yield it
    logger.enable("pipecat")


@pytest.fixture(autouse=True)
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    shared_sandbox.latency.first_token_ms, shared_sandbox.latency.token_ms = 1, 0
    yield shared_sandbox
    shared_sandbox.faults.clear()
    shared_sandbox.usage.clear()


@pytest.fixture(scope="module")
async def server(
    shared_dsn: str, tmp_path_factory: pytest.TempPathFactory, shared_sandbox: Sandbox
) -> AsyncIterator[RunningServer]:
    """A server with the vendors of the sandbox."""
    settings = Settings(
        _env_file=None,
        database_url=shared_dsn,
        data_dir=tmp_path_factory.mktemp("chat"),
        port=0,
        **shared_sandbox.env,
    )
    async with serving(settings) as running:
        yield running


async def desk(tenant: Tenant, **target: Any) -> str:
    """A draft orchestrator that routes to a draft agent with a function; its id."""
    billing = await create(
        tenant.owner,
        "/templates",
        {
            "name": "Billing",
            "prompt": "You are Josh. When the caller tells the invoice, call find_invoice.",
            "greeting": {"text": "Billing, what is your invoice number?"},
            "variables": [{"name": "amount", "source": "call"}],
            "functions": [
                {"type": "builtin", "name": "end_call"},
                {
                    "type": "http",
                    "name": "find_invoice",
                    "description": "Looks up an invoice by its number.",
                    "url": "https://invoices.example.com/find",
                    "parameters": {
                        "type": "object",
                        "properties": {"invoice_number": {"type": "string", "description": "Four digits."}},
                        "required": ["invoice_number"],
                    },
                    "keep": {"amount": "/amount"},
                },
            ],
            **target,
        },
    )
    front = await create(
        tenant.owner,
        "/templates",
        {
            "name": "Front desk",
            "kind": "orchestrator",
            "prompt": "You answer the telephone of Acme.",
            "greeting": {"text": "Acme, hello {{ caller }}."},
            "variables": [{"name": "caller", "required": True}],
            "routes": [{"name": "billing", "template_id": billing["id"], "when": "A bill or an invoice."}],
        },
    )
    return str(front["id"])


@contextlib.asynccontextmanager
async def limited(server: RunningServer, **limits: Any) -> AsyncIterator[None]:
    """Other limits on conversations, for those that begin inside."""
    app_state = server.app_state
    usual = app_state.chats
    app_state.chats = Chats(
        app_state.database,
        app_state.settings,
        Providers(app_state.settings),
        app_state.clock,
        Limits(**limits),
    )
    try:
        yield
    finally:
        await app_state.chats.close()
        app_state.chats = usual


def path(template_id: str) -> str:
    return f"/templates/{template_id}/chat"


async def chat(
    client: httpx.AsyncClient, template_id: str, status: int = 200, **asked: Any
) -> dict[str, Any]:
    response = await client.post(path(template_id), json=asked)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_conversation_is_routed_and_calls_functions_as_on_the_telephone(tenant: Tenant) -> None:
    """Turns go in; replies, routes, functions with their prepared answers, nodes and the agent come out."""
    front = await desk(tenant)
    author = tenant.clients["author"]
    answers = {"find_invoice": [{"when": {"invoice_number": "4471"}, "body": {"amount": "42 dollars"}}]}
    began = await chat(author, front, turns=[BILL], payload={"caller": "Ada"}, answers=answers)
    opening, routed = began["turns"]
    assert opening["said"] is None
    assert [reply["text"] for reply in opening["replies"]] == ["Acme, hello Ada."]
    assert opening["nodes"] == ["prompt"]
    [route] = routed["routes"]
    assert (route["name"], route["status"], route["to"]["agent"]) == ("billing", "done", "Billing")
    assert routed["replies"][-1]["text"] == "Billing, what is your invoice number?"
    assert began["at"]["agent"] == "Billing"
    assert began["agents"] == [{"name": "billing", "ready": True, "reason": None}]

    later = await chat(author, front, chat_id=began["chat_id"], turns=["It is 4 4 7 1."])
    [turn] = later["turns"]
    [call] = turn["functions"]
    assert (call["name"], call["arguments"], call["status"]) == (
        "find_invoice",
        {"invoice_number": "4471"},
        "ok",
    )
    assert later["variables"] == {"amount": "42 dollars"}
    assert "42 dollars" in turn["replies"][-1]["text"]

    over = await chat(author, front, chat_id=began["chat_id"], turns=["Goodbye!", "Are you still there?"])
    assert (over["status"], over["ended_by"]) == ("ended", "agent")
    assert [each["said"] for each in over["turns"]] == ["Goodbye!"]
    await chat(author, front, chat_id=began["chat_id"], turns=["Hello?"], status=409)


async def test_a_text_call_leaves_nothing_behind(tenant: Tenant) -> None:
    """No call and no lead is written for a text call."""
    front = await desk(tenant)
    await chat(tenant.owner, front, turns=[BILL], payload={"caller": "Ada"}, end=True)
    for resource in ("/calls", "/leads"):
        assert (await tenant.owner.get(resource)).json()["items"] == []


async def test_what_no_answer_is_prepared_for_is_told(tenant: Tenant) -> None:
    """With prepared answers no request is made; a call without a matching answer fails and is named."""
    front = await desk(tenant)
    answer = await chat(
        tenant.owner, front, turns=[BILL, "It is 9 9 9 9."], payload={"caller": "Ada"}, answers={}
    )
    last = answer["turns"][-1]
    assert last["functions"][0]["status"] == "failed"
    assert "find_invoice" in last["failures"][0]["reason"]


async def test_a_required_value_that_is_missing_is_refused(tenant: Tenant) -> None:
    """The error for a payload that does not match the template's variables names the variable."""
    problem = await chat(tenant.owner, await desk(tenant), status=422)
    assert problem["code"] == "invalid_template"
    assert problem["errors"][0]["pointer"] == "/caller"


async def test_a_draft_without_a_conversation_is_refused(tenant: Tenant) -> None:
    """A draft that has neither prompt nor flow cannot be talked to, and the answer says so."""
    empty = await create(tenant.owner, "/templates", {"name": "Empty"})
    problem = await chat(tenant.owner, empty["id"], status=422)
    assert "neither a prompt nor a flow" in problem["errors"][0]["message"]


async def test_a_target_that_cannot_begin_is_named(tenant: Tenant) -> None:
    """A route to an agent that cannot take the call is not offered, and the conversation says why."""
    front = await desk(tenant, variables=[{"name": "contract", "required": True}])
    answer = await chat(tenant.owner, front, payload={"caller": "Ada"})
    [agent] = answer["agents"]
    assert not agent["ready"]
    assert "contract" in agent["reason"]


@pytest.mark.parametrize("target", ["", "later", "00000000-0000-7000-8000-000000000001"])
async def test_a_draft_that_leads_nowhere_yet_can_be_talked_to(tenant: Tenant, target: str) -> None:
    """A route to a missing template is an unavailable agent; the current agent keeps the call."""
    route = {"name": "billing", "template_id": target, "when": "The caller asks about money."}
    draft = {"name": "Draft", "kind": "orchestrator", "prompt": "You are Ada.", "greeting": {"text": "Yes?"}}
    saved = await create(tenant.owner, "/templates", {**draft, "routes": [route]})
    answer = await chat(tenant.owner, saved["id"], turns=["I have a question about money."])
    assert [bool(turn["replies"]) for turn in answer["turns"]] == [True, True]
    assert answer["agents"] == [{"name": "billing", "ready": False, "reason": "the template is gone"}]


async def test_only_authors_and_their_superiors_talk_to_templates(tenant: Tenant) -> None:
    """Operators and viewers are refused."""
    agent = await tenant.agent()
    for role in ("operator", "viewer"):
        problem = await chat(tenant.clients[role], agent["id"], status=403)
        assert problem["code"] == "forbidden"


async def test_a_conversation_belongs_to_its_account_and_its_template(
    tenant: Tenant, server: RunningServer, database: Database
) -> None:
    """Another account finds neither the template nor the conversation; nor does another template's path."""
    agent, other = await tenant.agent(), await tenant.agent("Other")
    began = await chat(tenant.owner, agent["id"])
    problem = await chat(tenant.owner, other["id"], chat_id=began["chat_id"], status=409)
    assert problem["code"] == "chat_not_here"
    assert problem["errors"][0]["pointer"] == "/chat_id"
    assert "Start a new one" in problem["errors"][0]["remedy"]
    async with create_tenant(server.url, database) as stranger:
        await chat(stranger.owner, agent["id"], status=404)
        await chat(stranger.owner, agent["id"], chat_id=began["chat_id"], status=409)


async def test_a_model_that_hangs_is_told_plainly(
    tenant: Tenant, server: RunningServer, sandbox: Sandbox
) -> None:
    """A turn that is not over in time is a 504 that holds what happened until then; the conversation ends."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    began = await chat(tenant.owner, agent["id"])
    async with limited(server, turn_s=1.0):
        hung = await chat(tenant.owner, agent["id"])
        sandbox.faults.add(Fault(server="openai", kind="hang"))
        problem = await chat(tenant.owner, agent["id"], chat_id=hung["chat_id"], turns=["Hm?"], status=504)
        await chat(tenant.owner, agent["id"], chat_id=hung["chat_id"], turns=["Hm?"], status=409)
    assert problem["code"] == "model_timeout"
    assert problem["retryable"]
    assert problem["turns"][0]["said"] == "Hm?"
    sandbox.faults.clear()
    assert (await chat(tenant.owner, agent["id"], chat_id=began["chat_id"], turns=["Hi"]))["status"] == "open"


async def test_a_model_that_goes_silent_is_told_and_may_be_asked_again(
    tenant: Tenant, sandbox: Sandbox
) -> None:
    """A model that stops in the middle is a 504 too; the problem has its text, and the call continues."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    began = await chat(tenant.owner, agent["id"])
    sandbox.faults.add(Fault(server="openai", kind="hang", stage="message", count=1))
    asked = {"chat_id": began["chat_id"], "turns": ["Hello"]}
    problem = await chat(tenant.owner, agent["id"], status=504, **asked)
    assert problem["code"] == "model_timeout"
    assert problem["chat_id"] == began["chat_id"]
    assert problem["turns"][0]["failures"][0]["part"] == "llm"
    assert (await chat(tenant.owner, agent["id"], **asked))["turns"][0]["replies"]


async def test_a_model_that_fails_is_told_and_may_be_asked_again(tenant: Tenant, sandbox: Sandbox) -> None:
    """What the model's vendor refuses is among the turn's failures, and the conversation can go on."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    began = await chat(tenant.owner, agent["id"])
    sandbox.faults.add(Fault(server="openai", kind="broken"))
    failed = await chat(tenant.owner, agent["id"], chat_id=began["chat_id"], turns=["Hello"])
    assert failed["turns"][0]["replies"] == []
    assert failed["turns"][0]["failures"][0]["part"] == "llm"
    sandbox.faults.clear()
    again = await chat(tenant.owner, agent["id"], chat_id=began["chat_id"], turns=["Hello?"])
    assert again["turns"][0]["replies"]


async def test_a_backup_of_the_account_answers_in_a_text_call(tenant: Tenant, sandbox: Sandbox) -> None:
    """As on the telephone, the account's model is asked where a template names no backup; nothing fails."""
    backup = {"llm": [{"provider": "sandbox", "model": "reserve"}]}
    patched = await tenant.owner.patch("/account", json={"backup": backup}, headers={"If-Match": "*"})
    assert patched.status_code == 200, patched.text
    agent = await tenant.agent(greeting={"text": "Billing, hello."}, llm={"model": "preferred"})
    sandbox.faults.add(Fault(server="openai", kind="broken", match='"preferred"'))
    hits = sandbox.faults.hits
    began = await chat(tenant.owner, agent["id"], turns=["Hello", "Are you open?"])
    assert all(turn["replies"] for turn in began["turns"])
    assert [turn["failures"] for turn in began["turns"]] == [[], [], []]
    assert sandbox.faults.hits == hits + 1  # the backup is asked first from then on


@pytest.mark.parametrize(
    ("most", "limit"), [({"per_account": 2}, "chats_per_account"), ({"total": 2}, "chats")]
)
async def test_an_account_has_so_many_conversations_and_no_more(
    tenant: Tenant, server: RunningServer, most: dict[str, int], limit: str
) -> None:
    """One conversation too many is refused with 429 and counted; ending one makes room."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    counter = f'voicebot_limit_reached_total{{limit="{limit}"}}'
    async with limited(server, **most):
        first = await chat(tenant.owner, agent["id"])
        await chat(tenant.owner, agent["id"])
        before = await metric(server.url, counter)
        response = await tenant.owner.post(path(agent["id"]), json={})
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) > 0
        assert await metric(server.url, counter) == before + 1
        await chat(tenant.owner, agent["id"], chat_id=first["chat_id"], end=True)
        await chat(tenant.owner, agent["id"])


async def test_a_conversation_left_alone_is_forgotten(tenant: Tenant, server: RunningServer) -> None:
    """After the idle time a conversation is not here any more, and its place is free."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    async with limited(server, idle_s=0.05, per_account=1):
        began = await chat(tenant.owner, agent["id"])
        async with asyncio.timeout(30):
            while (later := await tenant.owner.post(path(agent["id"]), json={})).status_code == 429:
                await asyncio.sleep(0.01)
        assert later.json()["chat_id"] != began["chat_id"]
        asked = {"chat_id": began["chat_id"], "turns": ["Hello"]}
        assert (await chat(tenant.owner, agent["id"], status=409, **asked))["code"] == "chat_not_here"


async def test_two_turns_at_once_do_not_mix(tenant: Tenant, sandbox: Sandbox) -> None:
    """While a turn is being answered another one in the same conversation is refused."""
    agent = await tenant.agent(greeting={"text": "Billing, hello."})
    began = await chat(tenant.owner, agent["id"])
    sandbox.latency.first_token_ms = 300
    asked = {"chat_id": began["chat_id"], "turns": ["Hello"]}
    both = await asyncio.gather(*(tenant.owner.post(path(agent["id"]), json=asked) for _ in range(2)))
    assert sorted(response.status_code for response in both) == [200, 409]
    [refused] = [response.json() for response in both if response.status_code == 409]
    assert (refused["code"], refused["retryable"]) == ("chat_busy", True)


@pytest.mark.parametrize(
    "asked",
    [
        {"turns": [" "]},
        {"turns": ["x" * 2001]},
        {"turns": "Hello"},
        {"turns": ["\x00"]},
        {"chat_id": str(uuid4()), "payload": {"caller": "Ada"}},
        {"answers": {"find": [{"status": 99}]}},
        {"unknown": 1},
    ],
)
async def test_requests_that_make_no_sense_are_refused(tenant: Tenant, asked: dict[str, Any]) -> None:
    """Empty, endless and unknown members are 422, before anything begins."""
    agent = await tenant.agent()
    problem = await chat(tenant.owner, agent["id"], status=422, **asked)
    assert problem["code"] == "invalid_request"
