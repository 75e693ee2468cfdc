import asyncio
import json
import sys
from pathlib import Path

from db import accounts, numbers, templates
from db.numbers import NumberDraft
from db.pool import Database
from db.templates import TemplateFilter

SAVES_EACH = 100
ROOT = Path(__file__).parents[2]


async def start(dsn: str, account_id: object, number_id: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.db.concurrent_saver",
        dsn, str(account_id), str(number_id), str(SAVES_EACH),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


async def test_of_200_saves_from_two_processes_one_wins(database: Database, dsn: str) -> None:
    """One save succeeds, 199 are refused with the winner's id and name, and nothing of the losers remains."""
    account = await accounts.create(database, "Acme")
    number = await numbers.create(database, account.id, NumberDraft(e164="+14155550111", carrier="twilio"))
    processes = [await start(dsn, account.id, number.id) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    said = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))

    results = [result for out, _ in said for result in json.loads(out)]
    saved = [result[1:] for result in results if result[0] == "saved"]
    refused = [result[1:] for result in results if result[0] == "refused"]
    assert len(saved) == 1
    assert refused == saved * (2 * SAVES_EACH - 1)
    page = await templates.list_templates(database, account.id, TemplateFilter(), limit=200)
    assert [str(template.id) for template in page.items] == [saved[0][0]]
