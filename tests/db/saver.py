"""A server process that saves active orchestrators for one number, all at once, with no check before.

Run as ``python -m tests.db.saver DSN ACCOUNT NUMBER SAVES`` by test_orchestrator_race; waits for a line on
standard input, then prints one JSON list of what each save got.
"""

import asyncio
import json
import sys
from uuid import UUID

from db import templates
from db.errors import OrchestratorExists
from db.ids import new_id
from db.pool import Database
from tests.db.world import draft


async def main(dsn: str, account_id: UUID, number_id: UUID, saves: int) -> list[list[str]]:
    """Save as many as asked; returns for each ``saved`` or ``refused``, the winner's id and its name."""
    database = await Database.connect(dsn, min_size=20, max_size=20)

    async def save() -> list[str]:
        name = f"desk {new_id()}"
        rival = draft(name, kind="orchestrator", number_id=number_id)
        try:
            return ["saved", str((await templates.create(database, account_id, rival)).id), name]
        except OrchestratorExists as error:
            return ["refused", str(error.conflicting_template_id), error.name]

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results = await asyncio.gather(*(save() for _ in range(saves)))
    await database.close()
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3]), int(sys.argv[4])))))
