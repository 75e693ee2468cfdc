"""Twilio's media socket. Both directions are mono µ-law at 8000 Hz; ending the call is `Carrier.hang_up`."""

from __future__ import annotations

from starlette.websockets import WebSocket

from telephony.media import MediaStart
from telephony.mulaw import decode
from telephony.socket_media import MediaFormat, SocketMedia, accept_socket
from telephony.twilio.messages import TwilioMessages, parse, refusal


async def accept_media(websocket: WebSocket, *, start_timeout_s: float = 5.0) -> SocketMedia:
    """Accept Twilio's media socket and read messages up to `start`.

    The token in `start` is not checked here; if it is invalid, our caller must `refuse` with 1008.

    Raises:
        MediaRefused, MediaGone: see `telephony.socket_media.accept_socket`.
    """
    socket, start = await accept_socket(websocket, parse, refusal, start_timeout_s=start_timeout_s)
    facts = MediaStart(
        stream_id=start.stream_sid,
        carrier_call_id=start.call_sid,
        account_ref=start.account_sid,
        token=start.parameters.get("token", ""),
        parameters=start.parameters,
    )
    return SocketMedia(socket, facts, MediaFormat(messages=TwilioMessages(start.stream_sid), decode=decode))
