"""The start of every command: read the settings or report their faults, and set up logging."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping

from pydantic import ValidationError

from voicebot import logs
from voicebot.config import Settings, Variables

WRONG_SETTINGS = 2
"""The exit status of a command whose settings are not valid."""


def settings(*others: type[Variables], values: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. If some are not valid, print a line for each and exit.

    Args:
        others: variables that are read later and validated now.
        values: variables that take precedence over the environment, such as those of options.
    """
    with _faults_in_one_line():
        read = Settings(**(values or {}))
        for variables in others:
            read.read(variables)
    logs.configure(read.log_level)
    return read


def validate(settings: Settings, variables: Iterable[type[Variables]]) -> None:
    """Validate variables that are read later. If some are not valid, print a line for each and exit."""
    with _faults_in_one_line():
        for each in variables:
            settings.read(each)


@contextlib.contextmanager
def _faults_in_one_line() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            sys.stderr.write(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}\n")
        raise SystemExit(WRONG_SETTINGS) from None
