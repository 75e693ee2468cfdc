"""How every command begins: settings read, or said plainly what is wrong with them; logs set up."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from voicebot import logs
from voicebot.config import Settings

WRONG_SETTINGS = 2
"""The exit status of a command that was given settings it cannot use."""


def settings() -> Settings:
    """The settings of this process; ends it with a line for each that is wrong."""
    try:
        read = Settings()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            sys.stderr.write(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}\n")
        raise SystemExit(WRONG_SETTINGS) from None
    logs.configure(read.log_level)
    return read
