"""Who hears of a handoff, and how: real mail, real webhooks, every attempt a row."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from standardwebhooks.webhooks import Webhook

from db import channels, handoffs, outbox, users
from db.channels import ChannelKind
from db.errors import DatabaseError
from db.handoffs import HandoffDraft
from db.outbox import NoticeRecord
from db.pool import Database
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment
from tests.handoffs.receivers import Answer, Mailbox, Posted, Receiver, mail_server, receiver
from voicebot.clock import SystemClock
from voicebot.handoffs.create import create
from voicebot.handoffs.mail_sender import MailSender, MailServer
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import Outbox, OutboxSettings
from voicebot.vault import Vault

QUICK = OutboxSettings(
    first_pause=timedelta(milliseconds=20),
    max_pause=timedelta(milliseconds=100),
    lease=timedelta(seconds=2),
    timeout_s=1.5,
    poll_s=0.02,
    max_attempts=4,
)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Post:
    """An account's outbox, and those whom it reaches."""

    def __init__(self, database: Database, account_id: UUID, box: Mailbox, hook: Receiver) -> None:
        self.database, self.account_id, self.box, self.hook = database, account_id, box, hook
        self.vault = Vault(Fernet.generate_key())
        self.posting = WebhookSender(
            database, self.vault, SystemClock(), allow=frozenset({f"127.0.0.1:{hook.port}"})
        )
        self.mail = MailServer.from_url(f"smtp://127.0.0.1:{box.port}", "Acme <bot@example.com>")

    async def channel(self, kind: ChannelKind, url: str | None = None) -> UUID:
        sealed = None if kind == "slack" else self.vault.seal(SECRET)
        made = await channels.create(
            self.database, self.account_id, kind, url or self.hook.url, secret=sealed
        )
        return made.id

    @contextlib.asynccontextmanager
    async def running(self, rules: OutboxSettings = QUICK) -> AsyncIterator[Outbox]:
        senders = {
            "email": MailSender(self.mail),
            "slack": self.posting,
            "webhook": self.posting,
            "ticket": self.posting,
        }
        sending = Outbox(self.database, SystemClock(), senders, rules)  # type: ignore[arg-type]
        task = asyncio.create_task(sending.run())
        try:
            yield sending
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def notices(self, handoff_id: UUID) -> list[NoticeRecord]:
        return list(await outbox.of_handoff(self.database, self.account_id, handoff_id))

    async def settled(self, handoff_id: UUID) -> list[NoticeRecord]:
        async with asyncio.timeout(20):
            while True:
                found = await self.notices(handoff_id)
                if all(one.state in ("sent", "dead", "cancelled") for one in found):
                    return found
                await asyncio.sleep(0.02)

    async def attempts(self, notice: NoticeRecord) -> list[tuple[str | None, int | None]]:
        rows = await outbox.attempts(self.database, self.account_id, notice.id)
        return [(row.outcome, row.status_code) for row in rows]


@pytest.fixture
async def post(database: Database, world: SeededAccount) -> AsyncIterator[Post]:
    """An outbox with a mail server and a webhook receiver."""
    async with mail_server() as box, receiver() as hook:
        made = Post(database, world.id, box, hook)
        yield made
        await made.posting.close()


async def test_those_who_can_help_are_written_to(env: HandoffEnvironment, post: Post) -> None:
    """Active owners, admins and operators; not viewers, not who left, not who asked; no word of the call."""
    told = [
        await env.user(role=role, email=f"{role}@example.com")  # type: ignore[arg-type]
        for role in ("owner", "admin", "operator")
    ]
    asking = await env.user(role="admin", email="asking@example.com")
    await env.user(role="viewer", email="viewer@example.com")
    await env.user(role="author", email="author@example.com")
    await env.user(role="operator", email="off@example.com", active=False)
    gone = await env.user(role="operator", email="gone@example.com")
    await users.delete(env.database, env.account_id, gone)

    handoff = await env.escalate(created_by=asking, priority="high")
    async with post.running():
        notices = await post.settled(handoff.id)

    assert {notice.user_id for notice in notices} == set(told)
    assert sorted(post.box.recipients) == ["admin@example.com", "operator@example.com", "owner@example.com"]
    assert {letter["Subject"] for letter in post.box.letters} == {"A caller needs a person (high priority)"}
    assert {letter["Message-ID"] for letter in post.box.letters} == {
        f"<{notice.id}@example.com>" for notice in notices
    }


async def test_a_webhook_is_signed_and_slack_gets_text(env: HandoffEnvironment, post: Post) -> None:
    """A receiver can verify the one by Standard Webhooks; the other is what Slack takes."""
    await post.channel("webhook")
    await post.channel("slack")
    handoff = await env.escalate()
    async with post.running():
        notices = await post.settled(handoff.id)

    assert {notice.state for notice in notices} == {"sent"}
    [signed] = [one for one in post.hook.posted if "webhook-signature" in one.headers]
    verified = Webhook(SECRET).verify(signed.body, signed.headers)
    assert verified["data"]["handoff_id"] == str(handoff.id)
    assert signed.headers["webhook-id"] in {str(notice.id) for notice in notices}
    [slack] = [one for one in post.hook.posted if one is not signed]
    assert slack.document["text"].startswith("A caller needs a person")


async def test_retry_after_is_honoured_and_every_attempt_is_a_row(
    env: HandoffEnvironment, post: Post
) -> None:
    """Told to wait for a second, the outbox does; the id is the same each time."""
    await post.channel("webhook")
    loop, times = asyncio.get_running_loop(), []

    def answer(_: Posted) -> Answer:
        times.append(loop.time())
        return Answer(429, {"Retry-After": "1"}) if len(times) == 1 else Answer(204, body=b"")

    post.hook.answer = answer
    handoff = await env.escalate()
    async with post.running():
        [notice] = await post.settled(handoff.id)

    assert await post.attempts(notice) == [("failed", 429), ("sent", 204)]
    assert times[1] - times[0] >= 1
    assert len({one.headers["webhook-id"] for one in post.hook.posted}) == 1


async def test_a_dead_letter_can_be_sent_again(env: HandoffEnvironment, post: Post) -> None:
    """What failed as often as it may is dead; a person has it tried again when the recipient is well."""
    await post.channel("webhook")
    post.hook.answer = lambda _: Answer(500)
    handoff = await env.escalate()
    async with post.running() as sending:
        [dead] = await post.settled(handoff.id)
        assert (dead.state, dead.attempts) == ("dead", 4)
        post.hook.answer = lambda _: Answer()
        await outbox.retry(post.database, post.account_id, dead.id, SystemClock().now())
        sending.wake()
        [sent] = await post.settled(handoff.id)

    assert (sent.state, len(await post.attempts(sent))) == ("sent", 5)


async def test_a_refusal_for_good_is_not_repeated(env: HandoffEnvironment, post: Post) -> None:
    """410 from a webhook, an unknown recipient, an address that is not public: dead at once."""
    await post.channel("webhook")
    await post.channel("slack", "http://127.0.0.1:1/private")
    await env.user(role="admin", email="nobody@example.com")
    post.hook.answer = lambda _: Answer(410)
    post.box.answer = "550 no such user"
    handoff = await env.escalate()
    async with post.running():
        notices = await post.settled(handoff.id)

    assert [(notice.state, notice.attempts) for notice in notices] == [("dead", 1)] * 3


async def test_a_dead_mail_server_changes_nothing_else(env: HandoffEnvironment, post: Post) -> None:
    """Handoffs are made and webhooks arrive as ever; the mail is delivered when the server is back."""
    await post.channel("webhook")
    await env.user(role="admin", email="boss@example.com")
    post.box.answer = "451 come back later"
    async with post.running(OutboxSettings(first_pause=timedelta(milliseconds=20), poll_s=0.02)):
        made = [await env.escalate() for _ in range(5)]
        async with asyncio.timeout(5):
            while len(post.hook.posted) < 5:
                await asyncio.sleep(0.01)
        assert post.box.letters == []
        post.box.answer = "250 OK"
        for handoff in made:
            assert {one.state for one in await post.settled(handoff.id)} == {"sent"}

    assert len(post.box.letters) == 5


async def test_while_no_mail_server_answers_one_mail_tries_for_all(
    env: HandoffEnvironment, post: Post
) -> None:
    """A server that is gone costs an attempt now and then, not one a mail; all arrive once it is back."""
    for number in range(10):
        await env.user(role="admin", email=f"boss{number}@example.com")
    async with mail_server() as gone:
        port = gone.port
    post.mail = MailServer.from_url(f"smtp://127.0.0.1:{port}", "bot@example.com")
    rules = OutboxSettings(
        first_pause=timedelta(milliseconds=10), poll_s=0.02, down_pause_s=0.05, parallel=1, max_attempts=99
    )
    made = [await env.escalate() for _ in range(5)]
    async with post.running(rules):
        async with asyncio.timeout(20):
            while sum([one.attempts for each in made for one in await post.notices(each.id)]) < 5:
                await asyncio.sleep(0.02)
        tried = [one.attempts for each in made for one in await post.notices(each.id)]
        async with mail_server(port) as back:
            for handoff in made:
                assert {one.state for one in await post.settled(handoff.id)} == {"sent"}

    assert tried.count(0) > 30
    assert len(back.letters) == 50


async def test_a_claim_cancels_what_is_unsent(env: HandoffEnvironment, post: Post) -> None:
    """Nobody is called to a caller who is being helped."""
    await env.user(role="admin", email="boss@example.com")
    handoff = await env.escalate()
    await env.service.claim(env.account_id, handoff.id, await env.operator())
    async with post.running():
        await asyncio.sleep(0.2)

    assert [notice.state for notice in await post.notices(handoff.id)] == ["cancelled"]
    assert post.box.letters == []


async def test_nothing_is_sent_for_a_handoff_that_was_rolled_back(
    env: HandoffEnvironment, post: Post, database: Database
) -> None:
    """Notices commit with the handoff, or not at all."""
    await env.user(role="admin", email="boss@example.com")
    draft = HandoffDraft(intent="escalate", origin="model", reason="help", created_at=env.clock.now())
    with contextlib.suppress(DatabaseError):
        async with database.transaction() as transaction:
            await create(transaction, env.account_id, draft)
            raise DatabaseError("the plug is pulled")
    async with post.running():
        await asyncio.sleep(0.1)

    page = await outbox.list_notices(database, env.account_id, limit=10)
    assert list(page.items) == []


async def test_nobody_to_tell_is_no_error(env: HandoffEnvironment, post: Post) -> None:
    """An account without addresses escalates all the same."""
    assert await post.notices((await env.escalate()).id) == []


async def test_a_ticket_gets_the_notes_on_resolve_once(env: HandoffEnvironment, post: Post) -> None:
    """What the ticket system calls them is kept; a repeated delivery or resolve changes nothing."""
    await post.channel("ticket")
    post.hook.answer = lambda _: Answer(201, body=json.dumps({"id": "T-7"}).encode())
    handoff = await env.escalate(notes="angry")
    user_id = await env.operator()
    await env.service.claim(env.account_id, handoff.id, user_id)
    for _ in range(2):
        await env.service.resolve(env.account_id, handoff.id, user_id, resolution="refunded")
    async with post.running():
        [notice] = await post.settled(handoff.id)

    assert notice.remote_id == "T-7"
    assert (await handoffs.get(env.database, env.account_id, handoff.id)).note_id == "T-7"
    [posted] = post.hook.posted
    assert (posted.document["data"]["notes"], posted.document["data"]["resolution"]) == ("angry", "refunded")


async def test_a_sender_that_died_is_followed_by_another(env: HandoffEnvironment, post: Post) -> None:
    """The lease runs out, its attempt is written down as lost, and the notice is sent once more."""
    await post.channel("webhook")
    handoff = await env.escalate()
    now = SystemClock().now()
    [taken] = await outbox.claim(
        post.database, "webhook", now=now, lease_until=now + timedelta(milliseconds=100), limit=5
    )
    async with post.running():
        [notice] = await post.settled(handoff.id)

    assert notice.id == taken.id
    assert [outcome for outcome, _ in await post.attempts(notice)] == ["lost", "sent"]
