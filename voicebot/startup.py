"""How every command begins: it reads the settings, or says what is wrong with them, and sets up logs."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from voicebot import logs
from voicebot.config import Settings, Variables

WRONG_SETTINGS = 2
"""The exit status of a command whose settings are not valid."""


def settings(*others: type[Variables]) -> Settings:
    """The settings of this process. If some are not valid, print a line for each and exit.

    ``others`` are variables that are read later and validated now.
    """
    try:
        read = Settings()
        for variables in others:
            read.read(variables)
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            sys.stderr.write(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}\n")
        raise SystemExit(WRONG_SETTINGS) from None
    logs.configure(read.log_level)
    return read
