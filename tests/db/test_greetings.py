import asyncio
from datetime import timedelta

import pytest

from db import greetings
from db.errors import GreetingTooLarge, NotFound
from db.pool import Database
from tests.db.seed import SeededAccount


async def kept(database: Database) -> set[str]:
    return {row["key"] for row in await database.fetch("SELECT key FROM greetings")}


async def age(database: Database, key: str, by: timedelta) -> None:
    await database.execute(
        "UPDATE greetings SET last_used_at = last_used_at - $2::interval WHERE key = $1", key, by
    )


async def test_audio_comes_back_byte_for_byte(database: Database, seeded: SeededAccount) -> None:
    """Stored audio is returned unchanged, NULs included; other keys are not found."""
    audio = bytes(range(256)) * 40
    await greetings.put(database, seeded.id, "k", audio)
    await greetings.put(database, seeded.id, "k", audio)

    assert await greetings.get(database, seeded.id, "k") == audio
    with pytest.raises(NotFound):
        await greetings.get(database, seeded.id, "other")


async def test_the_least_recently_used_makes_room(database: Database, seeded: SeededAccount) -> None:
    """Beyond the bound the entry goes whose last use is longest ago, and a use counts."""
    for hours, key in ((3, "a"), (2, "b"), (1, "c")):
        await greetings.put(database, seeded.id, key, b"1234", bound=12)
        await age(database, key, timedelta(hours=hours))
    await greetings.get(database, seeded.id, "a")
    await greetings.put(database, seeded.id, "d", b"1234", bound=12)

    assert await kept(database) == {"a", "c", "d"}


async def test_the_cache_stays_within_its_bound(database: Database, dsn: str, seeded: SeededAccount) -> None:
    """Many writers at once on two replicas leave no more than the bound once the last one is done."""
    replica = await Database.connect(dsn)
    await asyncio.gather(
        *(
            greetings.put((database, replica)[n % 2], seeded.id, f"k{n}", b"x" * 100, bound=1000)
            for n in range(60)
        )
    )
    await greetings.put(database, seeded.id, "last", b"x" * 100, bound=1000)
    await replica.close()

    assert len(await kept(database)) == 10
    assert "last" in await kept(database)


async def test_what_alone_exceeds_the_bound_is_refused(database: Database, seeded: SeededAccount) -> None:
    """Nothing is pushed out for what cannot be kept."""
    await greetings.put(database, seeded.id, "small", b"1234", bound=10)

    with pytest.raises(GreetingTooLarge):
        await greetings.put(database, seeded.id, "large", b"12345678901", bound=10)
    assert await kept(database) == {"small"}


async def test_accounts_do_not_push_out_each_other(database: Database, seeded: SeededAccount) -> None:
    """The bound is an account's own."""
    second = await database.fetchrow(
        "INSERT INTO accounts (id, name) VALUES (gen_random_uuid(), 'b') RETURNING id"
    )
    assert second is not None
    await greetings.put(database, seeded.id, "k", b"1234567890", bound=10)
    await greetings.put(database, second["id"], "k", b"0987654321", bound=10)

    assert await greetings.get(database, seeded.id, "k") == b"1234567890"
    assert await greetings.get(database, second["id"], "k") == b"0987654321"
