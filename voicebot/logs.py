"""Logs on stderr: text on a terminal, JSON elsewhere. Values of variables are never logged."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message

_TERMINAL_FORMAT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message} <dim>{name} {extra}</dim>"
)


class _Forward(logging.Handler):
    """Forwards the records of Python's logging, which libraries use, to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(source=record.name).log(level, "{}", record.getMessage())


def configure(level: str) -> None:
    """Write all logs of this process from ``level`` (``INFO``…) on to stderr."""
    logger.remove()
    # diagnose=False: a traceback with the values of variables would contain keys and what callers said.
    if sys.stderr.isatty():
        logger.add(sys.stderr, level=level.upper(), format=_TERMINAL_FORMAT, diagnose=False, backtrace=False)
    else:
        logger.add(_write_json, level=level.upper(), diagnose=False, backtrace=False, format="{message}")
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


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
