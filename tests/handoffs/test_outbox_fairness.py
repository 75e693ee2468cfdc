"""An account or a destination that does not answer does not delay the notices of others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from db import channels, notices, outbox
from db.outbox import ClaimLimits, Medium, NoticeDraft
from db.pool import Database, Row
from tests.db.seed import NOON, SeededAccount, seed_account
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from tests.handoffs.receivers import Answer, Posted, Receiver, receiver
from voicebot.clock import Clock, SystemClock
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import Outbox, OutboxSettings
from voicebot.vault import Vault

HANG_S = 3600.0
PATIENT = OutboxSettings(timeout_s=HANG_S, poll_s=0.02, slow_after_s=0.1)
"""No attempt ends because of a timeout, so what arrives did not wait for one that hangs."""


def hang_or_answer(posted: Posted) -> Answer:
    """Answer at once, except on paths that begin with ``/hang``."""
    return Answer(after_s=HANG_S if posted.path.startswith("/hang") else 0.0)


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A receiver that hangs on some paths."""
    async with receiver() as made:
        made.answer = hang_or_answer
        yield made


@contextlib.asynccontextmanager
async def sending(
    database: Database, hook: Receiver, clock: Clock | None = None, media: Sequence[Medium] = ("slack",)
) -> AsyncIterator[None]:
    """An outbox that sends webhooks."""
    webhooks = WebhookSender(
        database, Vault(Fernet.generate_key()), SystemClock(), allow=frozenset({f"127.0.0.1:{hook.port}"})
    )
    senders = dict.fromkeys(media, webhooks)
    task = asyncio.create_task(Outbox(database, clock or SystemClock(), senders, PATIENT).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await webhooks.close()


async def slack(database: Database, account_id: UUID, hook: Receiver, path: str) -> UUID:
    """A channel of an account."""
    url = f"http://127.0.0.1:{hook.port}{path}"
    return (await channels.create(database, account_id, "slack", url)).id


async def until_posted(hook: Receiver, path: str, number: int = 1) -> None:
    """Wait until a path has been posted to."""
    async with asyncio.timeout(60):
        while sum(one.path.startswith(path) for one in hook.posted) < number:
            await asyncio.sleep(0.01)


async def test_an_account_whose_webhooks_hang_delays_no_other_account(
    database: Database, env: HandoffEnvironment, hook: Receiver
) -> None:
    """100 notices of an account hang at ten destinations; the notice of another account is sent at once."""
    for number in range(10):
        await slack(database, env.account_id, hook, f"/hang/{number}")
    for _ in range(10):
        await env.escalate()
    other = await seed_account(database, "+14155550112")
    await slack(database, other.id, hook, "/urgent")
    async with sending(database, hook):
        await until_posted(hook, "/hang", PATIENT.limits.per_account)
        await HandoffEnvironment(database, other.id, ManualClock()).escalate(priority="urgent")
        await until_posted(hook, "/urgent")


async def test_a_destination_that_hangs_delays_no_other_one_of_its_account(
    database: Database, env: HandoffEnvironment, hook: Receiver
) -> None:
    """Nine destinations of an account hang with ten notices each; the tenth gets all of its own."""
    for number in range(9):
        await slack(database, env.account_id, hook, f"/hang/{number}")
    await slack(database, env.account_id, hook, "/works")
    for _ in range(10):
        await env.escalate()
    clock = ManualClock(NOON + timedelta(hours=1))  # no destination is slow because the machine is
    async with sending(database, hook, clock):
        await until_posted(hook, "/hang", PATIENT.limits.per_account)
        clock.advance(seconds=1)
        await until_posted(hook, "/works", 10)


async def test_a_destination_that_hung_is_tried_again(
    database: Database, env: HandoffEnvironment, hook: Receiver, world: SeededAccount
) -> None:
    """Of a destination known as slow one notice at a time is sent; when it answers, it gets all of them."""
    hook.answer = lambda _: Answer(500, after_s=0.3)
    await slack(database, world.id, hook, "/slow")
    for _ in range(6):
        await env.escalate()
    async with sending(database, hook):
        await until_posted(hook, "/slow", PATIENT.limits.per_destination)
        hook.answer = lambda _: Answer()
        async with asyncio.timeout(60):
            while True:
                page = await notices.list_notices(database, world.id, state="sent", limit=10)
                if len(page.items) == 6:
                    break
                await asyncio.sleep(0.02)


async def test_due_notices_are_claimed_in_turn(
    database: Database, env: HandoffEnvironment, hook: Receiver
) -> None:
    """Accounts take turns within the total, and what is being sent counts towards every limit."""
    envs = [env]
    for e164 in ("+14155550112", "+14155550113"):
        account = await seed_account(database, e164)
        envs.append(HandoffEnvironment(database, account.id, ManualClock()))
    for one, path in zip(envs, ("/a", "/b", "/c"), strict=True):
        await slack(database, one.account_id, hook, path)
        await slack(database, one.account_id, hook, f"{path}/other")
    for one in envs[:1] * 8 + envs[1:]:
        await one.escalate()

    async def claim(**limits: int) -> dict[UUID, int]:
        claimed = await outbox.claim(
            database,
            "slack",
            now=NOON + timedelta(hours=1),
            lease_until=NOON + timedelta(hours=2),
            limits=ClaimLimits(**({"total": 9, "per_account": 9, "per_destination": 9} | limits)),
            sending=held,
        )
        held.extend(claimed)
        return {one.account_id: sum(each.account_id == one.account_id for each in claimed) for one in envs}

    held: list[outbox.NoticeRecord] = []
    first, second, third = (one.account_id for one in envs)
    assert await claim(total=3) == {first: 1, second: 1, third: 1}
    assert await claim(total=99, per_account=4) == {first: 3, second: 1, third: 1}
    assert await claim(total=99, per_account=99, per_destination=3) == {first: 2, second: 0, third: 0}
    assert await claim(total=len(held)) == {first: 0, second: 0, third: 0}


class Watched(Database):
    """The worker's database, which counts statements by their first argument, and those that run at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.pool, database.dsn)
        self.statements = Counter[str]()
        self.running = self.most = 0

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """Count a statement: ``datetime`` if it looks for what is due, or the medium of a claim."""
        first = arguments[0]
        self.statements[first if isinstance(first, str) else type(first).__name__] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().fetch(query, *arguments)
        finally:
            self.running -= 1


async def test_only_media_with_due_notices_claim(
    database: Database, env: HandoffEnvironment, hook: Receiver
) -> None:
    """One statement looks for the due notices of all media; those without any need no other one."""
    watched = Watched(database)
    async with sending(watched, hook, media=("slack", "email", "webhook")), asyncio.timeout(60):
        while watched.statements["datetime"] < 3:
            await asyncio.sleep(0.01)
        assert watched.statements.keys() == {"datetime"}
        await slack(database, env.account_id, hook, "/works")
        await env.escalate()
        await until_posted(hook, "/works")
    assert watched.statements.keys() == {"datetime", "slack"}


async def test_media_claim_notices_one_after_another(
    database: Database, hook: Receiver, world: SeededAccount
) -> None:
    """Notices of three media are due at the same moment: their claims take one connection of the database."""
    watched = Watched(database)
    media: tuple[Medium, ...] = ("slack", "email", "webhook")
    channel_id = await slack(database, world.id, hook, "/hang")
    drafts = [NoticeDraft(medium=medium, message={}, at=NOON, channel_id=channel_id) for medium in media]
    await outbox.put(database, world.id, drafts)
    async with sending(watched, hook, media=media), asyncio.timeout(60):
        while min(watched.statements[medium] for medium in media) < 1:
            await asyncio.sleep(0.01)
    assert watched.most == 1


async def test_what_a_dead_process_was_sending_is_due_again(
    database: Database, env: HandoffEnvironment, hook: Receiver, world: SeededAccount
) -> None:
    """When the lease has run out, its notices are due, or cancelled if nobody wants them any more."""
    now = NOON + timedelta(hours=1)
    await slack(database, world.id, hook, "/a")
    kept, unwanted = await env.escalate(), await env.escalate()
    claimed = await outbox.claim(database, "slack", now=now, lease_until=now, limits=PATIENT.limits)
    await outbox.cancel(database, world.id, unwanted.id, ["slack"], now)
    assert len(claimed) == 2

    assert await outbox.due(database, now - timedelta(seconds=1)) == set()
    assert await outbox.due(database, now) == {"slack"}
    states = {
        handoff: [notice.state for notice in await notices.of_handoff(database, world.id, handoff)]
        for handoff in (kept.id, unwanted.id)
    }
    assert states == {kept.id: ["waiting"], unwanted.id: ["cancelled"]}
