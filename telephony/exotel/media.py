"""Exotel's media socket. Its token is in the path, because Exotel repeats a failed handshake as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.websockets import WebSocket

from telephony import mulaw
from telephony.exotel.messages import (
    DEFAULT_RATE,
    MESSAGE_BYTES,
    ULAW,
    ExotelMessages,
    encoding_of,
    parse,
    refusal,
)
from telephony.exotel.numbers import e164
from telephony.media import MediaStart
from telephony.messages import Start
from telephony.socket_media import MediaFormat, SocketMedia, accept_socket

TOKEN = "token"  # noqa: S105 - the name of a path parameter
"""The parameter of the socket's path."""

RATE = "sample-rate"
"""The parameter of the socket's query: the sample rate that Exotel is asked for, in Hz."""


async def accept_media(websocket: WebSocket, *, start_timeout_s: float = 5.0) -> SocketMedia:
    """Accept Exotel's media socket and read messages up to `start`.

    The token of the path is not checked here; if it is invalid, our caller must `refuse` with 1008.

    Raises:
        MediaRefused, MediaGone: see `telephony.socket_media.accept_socket`.
    """
    token = str(websocket.path_params.get(TOKEN, ""))
    asked = websocket.query_params.get(RATE, "")
    read = partial(parse, default_rate=asked or DEFAULT_RATE)
    socket, start = await accept_socket(websocket, read, refusal, start_timeout_s=start_timeout_s)
    facts = MediaStart(
        stream_id=start.stream_sid,
        carrier_call_id=start.call_sid,
        account_ref=start.account_sid,
        token=token,
        parameters=start.parameters,
        caller=e164(start.caller),
    )
    return SocketMedia(socket, facts, media_format(start))


def media_format(start: Start) -> MediaFormat:
    """How a stream is read and written: the least that Exotel takes in a message is sent."""
    encoding = encoding_of(start)
    is_ulaw = encoding == ULAW
    samples = MESSAGE_BYTES // (encoding.sample_bytes if encoding is not None else 2)
    encode: Callable[[bytes], bytes] = mulaw.encode if is_ulaw else bytes
    return MediaFormat(
        messages=ExotelMessages(start.stream_sid, encode),
        decode=mulaw.decode if is_ulaw else _whole_samples,
        chunk_bytes=samples * 2,
        clears_whole_pieces=True,
        sample_rate=start.sample_rate,
    )


def _whole_samples(pcm: bytes) -> bytes:
    """The audio without an odd last byte: samples have 2 bytes."""
    return pcm[: len(pcm) // 2 * 2]
