"""A server process that soon believes others dead: `python -m tests.api.short_lease`."""

from __future__ import annotations

from datetime import timedelta

from voicebot import serving, startup
from voicebot.app import create_app
from voicebot.call.keeping import Lease

LEASE = Lease(length=timedelta(seconds=1.5), every=timedelta(seconds=0.2))


def main() -> None:
    """Serve until SIGTERM."""
    settings = startup.settings()
    serving.run(create_app(settings, lease=LEASE), settings)


if __name__ == "__main__":
    main()
