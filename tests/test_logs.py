"""Which parts of libraries' messages are logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from loguru import logger
from pydantic import TypeAdapter, ValidationError

from voicebot import logs


@pytest.fixture
def trace_log(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """The log of everything, as `LOG_LEVEL=TRACE` writes it to stderr."""
    handlers, level = logging.root.handlers[:], logging.root.level
    logs.configure("TRACE")
    yield capsys
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_of_a_pipecat_warning_only_the_place_is_logged(trace_log: pytest.CaptureFixture[str]) -> None:
    """Messages below a warning are left out; of a warning or an error, place and exception type remain."""
    code = """
def speak():
    logger.debug("Generating TTS [a secret]")
    logger.warning("not speaking [a secret]")
    try:
        raise ValueError("a secret")
    except ValueError:
        logger.exception("failed: a secret")
"""
    library = {"__name__": "pipecat.services.tts_service", "logger": logger}
    exec(compile(code, "tts_service.py", "exec"), library)  # noqa: S102 - stands for pipecat's module
    library["speak"]()  # type: ignore[operator]

    written = trace_log.readouterr().err
    assert "a secret" not in written
    assert "pipecat.services.tts_service:4 (speak)" in written
    assert "pipecat.services.tts_service:8 (speak, ValueError)" in written
    assert len(written.splitlines()) == 2


@pytest.mark.parametrize("library", ["openai._base_client", "httpx", "httpcore.http11", "websockets.client"])
def test_requests_of_libraries_are_not_logged(trace_log: pytest.CaptureFixture[str], library: str) -> None:
    """A library that was set to DEBUG (as by `OPENAI_LOG`) still logs no request; warnings are logged."""
    source = logging.getLogger(library)
    source.setLevel(logging.DEBUG)
    try:
        source.debug("Request options: %s", {"content": "a secret"})
        source.info("HTTP Request: a secret")
        source.warning("retrying")
    finally:
        source.setLevel(logging.NOTSET)

    written = trace_log.readouterr().err
    assert "a secret" not in written
    assert "retrying" in written


def test_a_refused_value_is_not_logged(trace_log: pytest.CaptureFixture[str]) -> None:
    """Of an error of validation, the names of the fields and the rules are logged, not the values."""
    given = {"age": "a secret"}
    try:
        TypeAdapter(dict[str, int]).validate_python(given)
    except ValidationError as error:
        logger.opt(exception=error).error("failed: {}", type(error).__name__)

    written = trace_log.readouterr().err
    assert "a secret" not in written
    assert "age: int_parsing" in written
    assert "Traceback" in written
