"""Logs on stderr: text on a terminal, JSON elsewhere.

What callers and agents say, prompts and values of variables are not logged at any level. pipecat writes them
into its messages, so only the places of its warnings and errors are logged.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from loguru import logger
from pydantic import ValidationError

if TYPE_CHECKING:
    from loguru import Message, Record

_TERMINAL_FORMAT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message} <dim>{name} {extra}</dim>"
)


_QUOTING_PACKAGES = ("pipecat",)
"""Packages whose messages quote what is said, prompts, and arguments of functions."""

_WARNING = 30


class _Forward(logging.Handler):
    """Forwards the records of Python's logging, which libraries use, to loguru.

    Below ``WARNING`` a library logs requests with their content; only uvicorn's messages are known not to.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and record.name.partition(".")[0] != "uvicorn":
            return
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(source=record.name).log(level, "{}", record.getMessage())


def configure(level: str) -> None:
    """Write all logs of this process from ``level`` (``INFO``…) on to stderr."""
    logger.remove()
    logger.configure(patcher=_remove_quotations)
    # diagnose=False: a traceback with the values of variables would contain keys and what callers said.
    if sys.stderr.isatty():
        logger.add(
            sys.stderr,
            level=level.upper(),
            format=_TERMINAL_FORMAT,
            filter=_is_written,
            diagnose=False,
            backtrace=False,
        )
    else:
        logger.add(
            _write_json,
            level=level.upper(),
            format="{message}",
            filter=_is_written,
            diagnose=False,
            backtrace=False,
        )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


def _quotes(record: Record) -> bool:
    return (record["name"] or "").partition(".")[0] in _QUOTING_PACKAGES


def _is_written(record: Record) -> bool:
    return record["level"].no >= _WARNING or not _quotes(record)


def _remove_quotations(record: Record) -> None:
    """Replace the message of a library that quotes by its place, and values by the names of their fields."""
    failure = record["exception"]
    if failure is not None and isinstance(failure.value, ValidationError):
        faults = failure.value.errors(include_url=False, include_context=False, include_input=False)
        fields = ", ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['type']}" for fault in faults)
        record["exception"] = failure._replace(type=ValueError, value=ValueError(fields))
    if not _quotes(record):
        return
    kind = f", {failure.type.__name__}" if failure is not None and failure.type is not None else ""
    record["exception"] = None
    place = f"{record['name']}:{record['line']} ({record['function']}{kind})"
    record["message"] = f"a message of {place}, which may quote the call"


def _write_json(message: Message) -> None:
    record = message.record
    entry = {
        "at": record["time"].isoformat(),
        "level": record["level"].name.lower(),
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    if record["exception"] is not None:
        # The formatted message is followed by its traceback.
        entry["traceback"] = str(message).removeprefix(record["message"]).strip()
    sys.stderr.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")
