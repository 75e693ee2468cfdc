"""A server process that soon believes others dead: `python -m tests.api.short_lease`."""

from __future__ import annotations

from datetime import timedelta

from voicebot import server, startup
from voicebot.call.leases import Lease

LEASE = Lease(length=timedelta(seconds=1.5), every=timedelta(seconds=0.2))


def main() -> None:
    """Serve until SIGTERM."""
    settings = startup.settings()
    server.run(settings, lease=LEASE)


if __name__ == "__main__":
    main()
