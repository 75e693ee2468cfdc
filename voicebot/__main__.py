"""`voicebot` and `python -m voicebot`."""

from __future__ import annotations

from voicebot.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
