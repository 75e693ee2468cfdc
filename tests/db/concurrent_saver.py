"""A server process that saves active orchestrators for one number, all at once.

Usage: ``python -m tests.db.concurrent_saver DSN ACCOUNT NUMBER SAVES``. It waits for a line on standard
input, then prints the result of each save as one JSON list.
"""

import asyncio
import json
import sys
from uuid import UUID

from db import templates
from db.errors import OrchestratorExists
from db.ids import new_id
from db.pool import Database
from tests.db.seed import draft


async def main(dsn: str, account_id: UUID, number_id: UUID, saves: int) -> list[list[str]]:
    """Run all saves; return ``saved`` or ``refused``, the winner's id and its name for each."""
    database = await Database.connect(dsn, min_size=20, max_size=20)

    async def save() -> list[str]:
        name = f"front {new_id()}"
        orchestrator = draft(name, kind="orchestrator", number_id=number_id)
        try:
            return ["saved", str((await templates.create(database, account_id, orchestrator)).id), name]
        except OrchestratorExists as error:
            return ["refused", str(error.conflicting_template_id), error.name]

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results = await asyncio.gather(*(save() for _ in range(saves)))
    await database.close()
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3]), int(sys.argv[4])))))
