import asyncio
from dataclasses import replace

import pytest

from db import call_tokens, calls, lead_control
from db.call_tokens import CallCancelled
from db.calls import CallEnd
from db.errors import TokenRefused
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_token_use


async def test_a_token_opens_its_call_once(database: Database, seeded: SeededAccount) -> None:
    """The first use gives the call, another use is refused, and another token opens it again."""
    use = make_token_use(seeded)

    assert await call_tokens.consume_token(database, use) == seeded.call
    with pytest.raises(TokenRefused):
        await call_tokens.consume_token(database, replace(use, used_by=new_id()))
    assert await call_tokens.consume_token(database, make_token_use(seeded, token="another")) == seeded.call


async def test_the_same_use_may_be_repeated(database: Database, seeded: SeededAccount) -> None:
    """A use whose answer was lost gives the call again."""
    use = make_token_use(seeded)

    assert await call_tokens.consume_token(database, use) == seeded.call
    assert await call_tokens.consume_token(database, use) == seeded.call


async def test_of_many_uses_at_once_one_wins(database: Database, dsn: str, seeded: SeededAccount) -> None:
    """A token replayed on two replicas at once opens one stream."""
    replica = await Database.connect(dsn)
    for number in range(20):
        results = await asyncio.gather(
            *(
                call_tokens.consume_token(db, make_token_use(seeded, token=f"token {number}"))
                for db in (database, replica) * 4
            ),
            return_exceptions=True,
        )
        assert results.count(seeded.call) == 1
        assert sum(isinstance(result, TokenRefused) for result in results) == 7
    await replica.close()


async def test_a_token_of_another_call_is_refused_and_not_used_up(
    database: Database, seeded: SeededAccount
) -> None:
    """A wrong call id of the carrier or account opens nothing and leaves the token to the right one."""
    use = make_token_use(seeded)

    for wrong in (replace(use, carrier_call_id="CA-another"), replace(use, account_id=new_id())):
        with pytest.raises(TokenRefused):
            await call_tokens.consume_token(database, wrong)
    assert await call_tokens.consume_token(database, use) == seeded.call


async def test_an_ended_call_is_not_opened(database: Database, seeded: SeededAccount) -> None:
    """After the end of the call a token is refused."""
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, seeded.id, seeded.call.id, end)

    with pytest.raises(TokenRefused):
        await call_tokens.consume_token(database, make_token_use(seeded))


async def test_a_dialled_call_that_was_called_off_is_not_opened(
    database: Database, seeded: SeededAccount
) -> None:
    """Until it is answered, the kill switch holds it back; afterwards it continues."""
    await database.execute("UPDATE calls SET direction = 'outbound' WHERE id = $1", seeded.call.id)
    await lead_control.stop(database, seeded.id, None, "kill_switch")
    use = make_token_use(seeded)
    for _ in range(2):
        with pytest.raises(CallCancelled) as refused:
            await call_tokens.consume_token(database, use)
        assert refused.value.call.id == seeded.call.id
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    opened = await call_tokens.consume_token(database, make_token_use(seeded, token="another"))
    assert opened.id == seeded.call.id


async def test_the_token_itself_is_not_stored(database: Database, seeded: SeededAccount) -> None:
    """The table contains only a hash of the token."""
    token = "a token that only the carrier has"
    await call_tokens.consume_token(database, make_token_use(seeded, token=token))

    row = await database.fetchrow("SELECT string_agg(call_tokens::text, '') AS everything FROM call_tokens")
    assert row is not None
    assert token not in row["everything"]
    assert token.encode().hex() not in row["everything"]
