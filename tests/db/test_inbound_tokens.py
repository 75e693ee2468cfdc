import asyncio
from datetime import timedelta

import pytest

from db import calls, inbound
from db.calls import CallEnd
from db.errors import NotFound, TokenRefused
from db.pool import Database
from tests.db.seed import NOON, SeededAccount

MINUTE = timedelta(minutes=1)


def carrier_id(seeded: SeededAccount) -> str:
    assert seeded.call.carrier_call_id is not None
    return seeded.call.carrier_call_id


async def test_a_token_opens_its_call_once(database: Database, seeded: SeededAccount) -> None:
    """The first use gives the call, the second is refused, and a fresh token opens it again."""
    token = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)

    assert await inbound.consume_token(database, token, carrier_id(seeded)) == seeded.call
    with pytest.raises(TokenRefused):
        await inbound.consume_token(database, token, carrier_id(seeded))
    fresh = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)
    assert await inbound.consume_token(database, fresh, carrier_id(seeded)) == seeded.call


async def test_of_many_uses_at_once_one_wins(database: Database, dsn: str, seeded: SeededAccount) -> None:
    """A token replayed on two replicas at once opens one stream."""
    replica = await Database.connect(dsn)
    for _ in range(20):
        token = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)
        results = await asyncio.gather(
            *(inbound.consume_token(db, token, carrier_id(seeded)) for db in (database, replica) * 4),
            return_exceptions=True,
        )
        assert results.count(seeded.call) == 1
        assert sum(isinstance(result, TokenRefused) for result in results) == 7
    await replica.close()


async def test_a_token_of_another_call_is_refused_and_not_used_up(
    database: Database, seeded: SeededAccount
) -> None:
    """A wrong call id does not open anything and leaves the token to the right one."""
    token = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)

    with pytest.raises(TokenRefused):
        await inbound.consume_token(database, token, "CA-another")
    assert await inbound.consume_token(database, token, carrier_id(seeded)) == seeded.call


@pytest.mark.parametrize("token", ["", "guess", "\0", "é" * 5000])
async def test_an_unknown_token_is_refused(database: Database, seeded: SeededAccount, token: str) -> None:
    """Whatever a stranger sends as a token is refused in the same way."""
    with pytest.raises(TokenRefused):
        await inbound.consume_token(database, token, carrier_id(seeded))


async def test_an_expired_token_is_refused(database: Database, seeded: SeededAccount) -> None:
    """A token is worth nothing once its time is over."""
    token = await inbound.issue_token(database, seeded.id, seeded.call.id, timedelta(milliseconds=-1))

    with pytest.raises(TokenRefused):
        await inbound.consume_token(database, token, carrier_id(seeded))


async def test_an_ended_call_has_no_tokens(database: Database, seeded: SeededAccount) -> None:
    """After the end a token issued before is refused, and no new one is issued."""
    token = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, seeded.id, seeded.call.id, end)

    with pytest.raises(TokenRefused):
        await inbound.consume_token(database, token, carrier_id(seeded))
    with pytest.raises(NotFound):
        await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)


async def test_the_token_itself_is_not_stored(database: Database, seeded: SeededAccount) -> None:
    """The table contains only a hash of the token."""
    token = await inbound.issue_token(database, seeded.id, seeded.call.id, MINUTE)

    row = await database.fetchrow("SELECT string_agg(call_tokens::text, '') AS everything FROM call_tokens")
    assert row is not None
    assert token not in row["everything"]
    assert token.encode().hex() not in row["everything"]
