"""Recipients and delivery of notices, with a real SMTP server and real webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from standardwebhooks.webhooks import Webhook

from db import channels, handoffs, notices, outbox, users
from db.channels import ChannelKind
from db.errors import DatabaseError
from db.handoffs import HandoffDraft
from db.outbox import ClaimLimits, NoticeRecord
from db.pool import Database
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment
from tests.handoffs.receivers import (
    Answer,
    Mailbox,
    Posted,
    Receiver,
    mail_server,
    receiver,
    server_certificate,
)
from voicebot.clock import SystemClock
from voicebot.handoffs.create import create
from voicebot.handoffs.mail_sender import MailSender, MailServer
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import NotSent, Outbox, OutboxSettings
from voicebot.vault import Vault

FAST = OutboxSettings(
    first_pause=timedelta(milliseconds=20),
    max_pause=timedelta(milliseconds=100),
    lease=timedelta(seconds=2),
    timeout_s=1.5,
    poll_s=0.02,
    max_attempts=4,
)
ONE = ClaimLimits(total=1, per_account=1, per_destination=1)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Recipients:
    """An account's outbox and its recipients."""

    def __init__(self, database: Database, account_id: UUID, mailbox: Mailbox, hook: Receiver) -> None:
        self.database, self.account_id, self.mailbox, self.hook = database, account_id, mailbox, hook
        self.vault = Vault(Fernet.generate_key())
        self.webhooks = WebhookSender(
            database, self.vault, SystemClock(), allow=frozenset({f"127.0.0.1:{hook.port}"})
        )
        self.mail = MailServer.from_url(f"smtp://127.0.0.1:{mailbox.port}", "Acme <bot@example.com>")

    async def channel(self, kind: ChannelKind, url: str | None = None) -> UUID:
        sealed = None if kind == "slack" else self.vault.seal(SECRET)
        made = await channels.create(
            self.database, self.account_id, kind, url or self.hook.url, secret=sealed
        )
        return made.id

    @contextlib.asynccontextmanager
    async def running(self, rules: OutboxSettings = FAST) -> AsyncIterator[Outbox]:
        senders = {
            "email": MailSender(self.mail),
            "slack": self.webhooks,
            "webhook": self.webhooks,
            "ticket": self.webhooks,
        }
        sending = Outbox(self.database, SystemClock(), senders, rules)  # type: ignore[arg-type]
        task = asyncio.create_task(sending.run())
        try:
            yield sending
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def notices(self, handoff_id: UUID) -> list[NoticeRecord]:
        return list(await notices.of_handoff(self.database, self.account_id, handoff_id))

    async def settled(self, handoff_id: UUID) -> list[NoticeRecord]:
        async with asyncio.timeout(60):
            while True:
                found = await self.notices(handoff_id)
                if all(one.state in ("sent", "dead", "cancelled") for one in found):
                    return found
                await asyncio.sleep(0.02)

    async def attempts(self, notice: NoticeRecord) -> list[tuple[str | None, int | None]]:
        rows = await notices.attempts(self.database, self.account_id, notice.id)
        return [(row.outcome, row.status_code) for row in rows]


@pytest.fixture
async def recipients(database: Database, world: SeededAccount) -> AsyncIterator[Recipients]:
    """An outbox with a mail server and a webhook receiver."""
    async with mail_server() as mailbox, receiver() as hook:
        made = Recipients(database, world.id, mailbox, hook)
        yield made
        await made.webhooks.close()


async def test_who_gets_an_e_mail(env: HandoffEnvironment, recipients: Recipients) -> None:
    """Active owners, admins and operators, except the requester; the subject has nothing of the call."""
    expected = [
        await env.user(role=role, email=f"{role}@example.com") for role in ("owner", "admin", "operator")
    ]
    asking = await env.user(role="admin", email="asking@example.com")
    await env.user(role="viewer", email="viewer@example.com")
    await env.user(role="author", email="author@example.com")
    await env.user(role="operator", email="off@example.com", active=False)
    deleted = await env.user(role="operator", email="deleted@example.com")
    await users.delete(env.database, env.account_id, deleted)

    handoff = await env.escalate(created_by=asking, priority="high")
    async with recipients.running():
        notices = await recipients.settled(handoff.id)

    assert {notice.user_id for notice in notices} == set(expected)
    assert sorted(recipients.mailbox.recipients) == [
        "admin@example.com",
        "operator@example.com",
        "owner@example.com",
    ]
    assert {message["Subject"] for message in recipients.mailbox.messages} == {
        "A caller needs a person (high priority)"
    }
    assert {message["Message-ID"] for message in recipients.mailbox.messages} == {
        f"<{notice.id}@example.com>" for notice in notices
    }


async def test_a_webhook_is_signed_and_slack_gets_text(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """The webhook verifies by Standard Webhooks; Slack gets a text."""
    await recipients.channel("webhook")
    await recipients.channel("slack")
    handoff = await env.escalate()
    async with recipients.running():
        notices = await recipients.settled(handoff.id)

    assert {notice.state for notice in notices} == {"sent"}
    [signed] = [one for one in recipients.hook.posted if "webhook-signature" in one.headers]
    verified = Webhook(SECRET).verify(signed.body, signed.headers)
    assert verified["data"]["handoff_id"] == str(handoff.id)
    assert signed.headers["webhook-id"] in {str(notice.id) for notice in notices}
    [slack] = [one for one in recipients.hook.posted if one is not signed]
    assert slack.document["text"].startswith("A caller needs a person")


async def test_a_reason_cannot_notify_a_whole_slack_channel(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """`<!channel>`, links and entities in a reason reach Slack escaped, as text."""
    await recipients.channel("slack")
    await recipients.channel("webhook")
    handoff = await env.escalate(reason='<!channel> <https://evil.example|refund> &lt; "now"')
    async with recipients.running():
        await recipients.settled(handoff.id)

    [slack] = [one for one in recipients.hook.posted if "webhook-signature" not in one.headers]
    escaped = '&lt;!channel&gt; &lt;https://evil.example|refund&gt; &amp;lt; "now"'
    assert escaped in slack.document["text"]
    assert "<" not in slack.document["text"]
    [webhook] = [one for one in recipients.hook.posted if one is not slack]
    assert webhook.document["data"]["reason"].startswith("<!channel>")


@pytest.mark.parametrize("offered", ["no TLS", "untrusted TLS", "trusted TLS"])
async def test_starttls_cannot_be_stripped_from_credentials(
    env: HandoffEnvironment,
    recipients: Recipients,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    offered: str,
) -> None:
    """Credentials are sent only over TLS with a trusted certificate; without it the mail waits."""
    certificate, tls = server_certificate(tmp_path)
    if offered == "trusted TLS":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    await env.user(role="admin", email="boss@example.com")
    handoff = await env.escalate()
    async with mail_server(tls=None if offered == "no TLS" else tls) as mailbox:
        url = f"smtp://bot:secret@localhost:{mailbox.port}"
        [notice] = await recipients.notices(handoff.id)
        sending = MailSender(MailServer.from_url(url, "bot@example.com")).send(notice)
        if offered == "trusted TLS":
            await sending
        else:
            with pytest.raises(NotSent) as refused:
                await sending
            assert refused.value.retryable
            assert refused.value.medium_down

    sent = offered == "trusted TLS"
    assert (mailbox.logins, len(mailbox.messages)) == (([("bot", "secret")], 1) if sent else ([], 0))


async def test_retry_after_is_honoured_and_every_attempt_is_a_row(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """The retry comes after the requested second, with the same id."""
    await recipients.channel("webhook")
    loop, times = asyncio.get_running_loop(), []

    def answer(_: Posted) -> Answer:
        times.append(loop.time())
        return Answer(429, {"Retry-After": "1"}) if len(times) == 1 else Answer(204, body=b"")

    recipients.hook.answer = answer
    handoff = await env.escalate()
    async with recipients.running():
        [notice] = await recipients.settled(handoff.id)

    assert await recipients.attempts(notice) == [("failed", 429), ("sent", 204)]
    assert times[1] - times[0] >= 1
    assert len({one.headers["webhook-id"] for one in recipients.hook.posted}) == 1


@pytest.mark.parametrize("value", ["\u00b2", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
async def test_retry_after_superscript_two_is_a_failed_attempt(
    env: HandoffEnvironment, recipients: Recipients, value: str
) -> None:
    """A Retry-After without a meaning counts as absent: each attempt is recorded, the next follows."""
    await recipients.channel("webhook")
    recipients.hook.answer = lambda _: Answer(429, {"Retry-After": value})
    handoff = await env.escalate()
    async with recipients.running():
        [notice] = await recipients.settled(handoff.id)

    assert notice.state == "dead"
    assert await recipients.attempts(notice) == [("failed", 429)] * 4


async def test_a_dead_notice_can_be_retried(env: HandoffEnvironment, recipients: Recipients) -> None:
    """A notice is dead after the maximum of attempts; a retry sends it when the recipient works again."""
    await recipients.channel("webhook")
    recipients.hook.answer = lambda _: Answer(500)
    handoff = await env.escalate()
    async with recipients.running() as sending:
        [dead] = await recipients.settled(handoff.id)
        assert (dead.state, dead.attempts) == ("dead", 4)
        recipients.hook.answer = lambda _: Answer()
        await notices.retry(recipients.database, recipients.account_id, dead.id, SystemClock().now())
        sending.wake()
        [sent] = await recipients.settled(handoff.id)

    assert (sent.state, len(await recipients.attempts(sent))) == ("sent", 5)


@pytest.mark.parametrize("status", [302, 400, 401, 404])
async def test_a_receiver_that_is_changed_is_tried_again(
    env: HandoffEnvironment, recipients: Recipients, status: int
) -> None:
    """While it is deployed it may redirect, or refuse what it accepts afterwards."""
    await recipients.channel("webhook")
    statuses = iter([status, 200])
    recipients.hook.answer = lambda _: Answer(next(statuses))
    handoff = await env.escalate()
    async with recipients.running():
        [notice] = await recipients.settled(handoff.id)

    assert notice.state == "sent"
    assert await recipients.attempts(notice) == [("failed", status), ("sent", 200)]


async def test_a_permanent_refusal_is_not_retried(env: HandoffEnvironment, recipients: Recipients) -> None:
    """410 of a webhook, an unknown recipient and a private address: dead at once."""
    await recipients.channel("webhook")
    await recipients.channel("slack", "http://127.0.0.1:1/private")
    await env.user(role="admin", email="nobody@example.com")
    recipients.hook.answer = lambda _: Answer(410)
    recipients.mailbox.answer = "550 no such user"
    handoff = await env.escalate()
    async with recipients.running():
        notices = await recipients.settled(handoff.id)

    assert [(notice.state, notice.attempts) for notice in notices] == [("dead", 1)] * 3


async def test_a_failing_mail_server_delays_nothing_else(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """Handoffs are created and webhooks arrive; the mail is delivered when the server works again."""
    await recipients.channel("webhook")
    await env.user(role="admin", email="boss@example.com")
    recipients.mailbox.answer = "451 come back later"
    async with recipients.running(OutboxSettings(first_pause=timedelta(milliseconds=20), poll_s=0.02)):
        made = [await env.escalate() for _ in range(5)]
        async with asyncio.timeout(30):
            while len(recipients.hook.posted) < 5:
                await asyncio.sleep(0.01)
        assert recipients.mailbox.messages == []
        recipients.mailbox.answer = "250 OK"
        for handoff in made:
            assert {one.state for one in await recipients.settled(handoff.id)} == {"sent"}

    assert len(recipients.mailbox.messages) == 5


async def test_while_the_mail_server_is_down_one_mail_is_tried(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """A single mail is retried while the server is down; all arrive when it is back."""
    for number in range(10):
        await env.user(role="admin", email=f"boss{number}@example.com")
    async with mail_server() as deleted:
        port = deleted.port
    recipients.mail = MailServer.from_url(f"smtp://127.0.0.1:{port}", "bot@example.com")
    rules = OutboxSettings(
        first_pause=timedelta(milliseconds=10), poll_s=0.02, down_pause_s=0.05, limits=ONE, max_attempts=99
    )
    made = [await env.escalate() for _ in range(5)]
    async with recipients.running(rules):
        async with asyncio.timeout(60):
            while sum([one.attempts for each in made for one in await recipients.notices(each.id)]) < 5:
                await asyncio.sleep(0.02)
        tried = [one.attempts for each in made for one in await recipients.notices(each.id)]
        async with mail_server(port) as back:
            for handoff in made:
                assert {one.state for one in await recipients.settled(handoff.id)} == {"sent"}

    assert tried.count(0) > 30
    assert len(back.messages) == 50


async def test_a_claim_cancels_unsent_notices(env: HandoffEnvironment, recipients: Recipients) -> None:
    """No request for help is sent after a claim."""
    await env.user(role="admin", email="boss@example.com")
    handoff = await env.escalate()
    await env.service.claim(env.account_id, handoff.id, await env.operator())
    async with recipients.running():
        await asyncio.sleep(0.2)

    assert [notice.state for notice in await recipients.notices(handoff.id)] == ["cancelled"]
    assert recipients.mailbox.messages == []


async def test_nothing_is_sent_for_a_handoff_that_was_rolled_back(
    env: HandoffEnvironment, recipients: Recipients, database: Database
) -> None:
    """Notices commit with the handoff."""
    await env.user(role="admin", email="boss@example.com")
    draft = HandoffDraft(intent="escalate", origin="model", reason="help", created_at=env.clock.now())
    with contextlib.suppress(DatabaseError):
        async with database.transaction() as transaction:
            await create(transaction, env.account_id, draft)
            raise DatabaseError("the plug is pulled")
    async with recipients.running():
        await asyncio.sleep(0.1)

    page = await notices.list_notices(database, env.account_id, limit=10)
    assert list(page.items) == []


async def test_an_account_without_recipients(env: HandoffEnvironment, recipients: Recipients) -> None:
    """An account without recipients can escalate."""
    assert await recipients.notices((await env.escalate()).id) == []


async def test_a_ticket_gets_the_notes_on_resolve_once(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """The ticket system's id is stored; a repeated delivery or resolve changes nothing."""
    await recipients.channel("ticket")
    recipients.hook.answer = lambda _: Answer(201, body=json.dumps({"id": "T-7"}).encode())
    handoff = await env.escalate(notes="angry")
    user_id = await env.operator()
    await env.service.claim(env.account_id, handoff.id, user_id)
    for _ in range(2):
        await env.service.resolve(env.account_id, handoff.id, user_id, resolution="refunded")
    async with recipients.running():
        [notice] = await recipients.settled(handoff.id)

    assert notice.remote_id == "T-7"
    assert (await handoffs.get(env.database, env.account_id, handoff.id)).note_id == "T-7"
    [posted] = recipients.hook.posted
    assert (posted.document["data"]["notes"], posted.document["data"]["resolution"]) == ("angry", "refunded")


async def test_a_notice_of_a_dead_sender_is_sent_again(
    env: HandoffEnvironment, recipients: Recipients
) -> None:
    """The lease runs out, the attempt is recorded as lost, and the notice is sent again."""
    await recipients.channel("webhook")
    handoff = await env.escalate()
    now = SystemClock().now()
    [taken] = await outbox.claim(
        recipients.database,
        "webhook",
        now=now,
        lease_until=now + timedelta(milliseconds=100),
        limits=OutboxSettings().limits,
    )
    async with recipients.running():
        [notice] = await recipients.settled(handoff.id)

    assert notice.id == taken.id
    assert [outcome for outcome, _ in await recipients.attempts(notice)] == ["lost", "sent"]
