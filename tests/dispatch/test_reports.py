"""What is posted to the webhook of a template, and its signature."""

from __future__ import annotations

from cryptography.fernet import Fernet
from standardwebhooks.webhooks import Webhook

from db import account_settings, outbox
from db.outbox import ClaimLimits
from tests.dispatch.conftest import DispatchEnvironment
from tests.handoffs.receivers import receiver
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.reencryption import Reencryption
from voicebot.vault import Vault

Env = DispatchEnvironment


async def test_webhooks_are_signed_with_the_key_of_the_account(dispatch_environment: Env) -> None:
    """Standard Webhooks: id, timestamp and signature; each template is a destination of its own."""
    env = dispatch_environment
    vault = Vault(Fernet.generate_key())
    async with receiver() as hook:
        for outcome in ("busy", "failed"):
            lead = await env.lead(await env.template(webhook_url=hook.url, max_attempts=1))
            await env.step()
            await env.ends((await env.calls_of(lead))[0], outcome)
            await env.step()
        limits = ClaimLimits(total=9, per_account=9, per_destination=9)
        now = env.clock.now()
        claimed = await outbox.claim(env.database, "webhook", now=now, lease_until=now, limits=limits)
        sender = WebhookSender(env.database, vault, env.clock, allow=frozenset({f"127.0.0.1:{hook.port}"}))
        for notice in claimed:
            await sender.send(notice)
        await sender.close()

    assert len({notice.destination for notice in claimed}) == 2
    sealed = await account_settings.webhook_secret(env.database, env.account_id, "another")
    key = Webhook(vault.open(sealed))
    bodies = [key.verify(posted.body, posted.headers) for posted in hook.posted]
    assert sorted((body["type"], body["data"]["outcome"]) for body in bodies) == [
        ("call.ended", "busy"), ("call.ended", "failed"),
        ("lead.finished", "busy"), ("lead.finished", "failed"),
    ]  # fmt: skip
    assert {posted.headers["webhook-id"] for posted in hook.posted} == {str(each.id) for each in claimed}


async def test_the_key_is_encrypted_again(dispatch_environment: Env) -> None:
    """After a change of the server's key, the account's key stays the same."""
    env = dispatch_environment
    old, new = Fernet.generate_key(), Fernet.generate_key()
    await account_settings.replace_webhook_secret(env.database, env.account_id, Vault(old).seal("whsec_YQ=="))
    work = Reencryption(Vault(new, old))
    await work.run(env.database)
    sealed = await account_settings.webhook_secret(env.database, env.account_id, "another")
    assert (Vault(new).open(sealed), work.reencrypted) == ("whsec_YQ==", 1)
