"""The author's server is asked before a person is called."""

from __future__ import annotations

from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from db import account_settings
from handlers.http import CheckedNetwork, HttpClient, HttpResponse
from tests.dispatch.conftest import VAULT_KEY, DispatchEnvironment, make_dispatcher
from tests.handoffs.receivers import Answer, Receiver, receiver
from voicebot.dispatch.precheck import verdict_of
from voicebot.vault import Vault

Env = DispatchEnvironment


async def asked(env: Env, hook: Receiver, **precheck: Any) -> tuple[str, str | None, int]:
    """What becomes of a lead that the server is asked about: status, outcome, and calls placed."""
    client = HttpClient(CheckedNetwork(frozenset({f"127.0.0.1:{hook.port}"})))
    dispatcher = make_dispatcher(env.database, env.clock, env.carrier, client=client)
    template_id = await env.template(precheck={"url": hook.url, "timeout_ms": 500, **precheck})
    lead = await env.lead(template_id, payload={"order": 7})
    await env.step(dispatcher)
    await client.close()
    found = await env.again(lead)
    return found.status, found.outcome, len(env.carrier.dialled)


async def test_a_server_lets_a_lead_be_dialled(dispatch_environment: Env) -> None:
    """It receives the lead, in a request that is signed with the account's key."""
    env = dispatch_environment
    async with receiver() as hook:
        assert await asked(env, hook) == ("dialing", None, 1)
    [posted] = hook.posted
    assert (posted.document["payload"], posted.document["attempts"]) == ({"order": 7}, 0)
    sealed = await account_settings.webhook_secret(env.database, env.account_id, "another")
    Webhook(Vault(VAULT_KEY).open(sealed)).verify(posted.body, posted.headers)


@pytest.mark.parametrize("answer", [Answer(body=b'{"proceed": false}'), Answer(status=409)])
async def test_a_server_skips_a_lead(dispatch_environment: Env, answer: Answer) -> None:
    """The lead ends; neither a channel nor the person's rate limit was used."""
    async with receiver() as hook:
        hook.answer = lambda _: answer
        assert await asked(dispatch_environment, hook) == ("finished", "skipped", 0)


@pytest.mark.parametrize(
    ("on_failure", "becomes"), [("proceed", ("dialing", None, 1)), ("skip", ("finished", "skipped", 0))]
)
@pytest.mark.parametrize("answer", [Answer(status=500), Answer(after_s=5)])
async def test_a_server_that_fails(
    dispatch_environment: Env, answer: Answer, on_failure: str, becomes: tuple[str, str | None, int]
) -> None:
    """The author says whether the lead is dialled all the same."""
    async with receiver() as hook:
        hook.answer = lambda _: answer
        assert await asked(dispatch_environment, hook, on_failure=on_failure) == becomes


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (204, b"", True),
        (200, b"[]", True),
        (200, b"[" * 100_000, True),
        (200, b'{"proceed": true}', True),
        (200, b'{"proceed": false}', False),
        (404, b"", False),
        (408, b"", None),
        (429, b"", None),
        (302, b"", None),
        (503, b"", None),
    ],
)
def test_what_an_answer_says(status: int, body: bytes, verdict: bool | None) -> None:
    """2xx lets it be dialled, 4xx does not; everything else is a failure."""
    assert verdict_of(HttpResponse(status=status, body=body)) is verdict


def test_an_answer_that_is_too_long_is_a_failure() -> None:
    """It may say no in the part that was not read."""
    answer = HttpResponse(status=200, body=b'{"proceed": false, "pad": "x', complete=False)
    assert verdict_of(answer) is None
