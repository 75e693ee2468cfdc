"""Twilio's REST API: hang up, transfer, dial, with timeouts and retries that cannot place a call twice.

Uses the asynchronous HTTP client of the twilio package. Sources: calls,
https://www.twilio.com/docs/voice/api/call-resource; requests answered with 429 were not processed and may be
retried, https://www.twilio.com/docs/errors/20429; calls that have ended,
https://www.twilio.com/docs/errors/20404 and https://www.twilio.com/docs/errors/21220.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from random import SystemRandom
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from aiohttp import ClientConnectorError, ClientError
from loguru import logger
from twilio.base.exceptions import TwilioException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client
from twilio.rest.api import Api

from telephony.bridge import ConferenceJoin
from telephony.carrier import DialRequest, TransferRequest
from telephony.errors import CallIsOver, CarrierError
from telephony.twilio.bridge import join_twiml, message_twiml
from telephony.twilio.webhooks import transfer_twiml

ATTEMPTS = 4
TIMEOUT_S = 5.0
BACKOFF_S = 0.25
LONGEST_WAIT_S = 4.0
"""Longest time in seconds that a request's retries wait; if Twilio asks for more, the error is raised."""

CALL_GONE_CODES = frozenset({"20404", "21220"})
"""Error codes for a call that does not exist or is not in progress."""

ACCOUNT_CODES = frozenset({"20003", "20005", "20006"})
"""Error codes for an account that is not active, and for credentials or permissions that are refused."""

LIVE_STATUSES = frozenset({"queued", "initiated", "ringing", "in-progress"})

MAX_FOUND = 50
"""How many of the latest calls between two numbers are searched."""

PROGRESS_EVENTS = ["initiated", "ringing", "answered", "completed"]

T = TypeVar("T")

_twilio_logger = logging.getLogger("telephony.twilio.rest")
_twilio_logger.setLevel(logging.WARNING)  # the package would log every request with its fields


class _HttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]
    """The package's client with a configurable address, a timeout, and `CarrierError` for failures."""

    def __init__(self, api_url: str | None, timeout_s: float) -> None:
        super().__init__(logger=_twilio_logger)
        self._api_url = api_url
        self._timeout_s = timeout_s

    async def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await super().request(method, self._rebased(url), *args, **kwargs)
        except ClientConnectorError as error:
            raise CarrierError("Twilio cannot be reached", status=0, retryable=True) from error
        except (TimeoutError, ClientError, OSError) as error:
            raise CarrierError(
                f"Twilio did not respond ({type(error).__name__})", status=0, retryable=True, uncertain=True
            ) from error
        if response.status_code >= 400:
            raise _refusal(response)
        return response

    def _rebased(self, url: str) -> str:
        if self._api_url is None:
            return url
        parts = urlsplit(url)
        return self._api_url.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


class TwilioRest:
    """The REST API for the calls of one account. Connections are opened on first use and kept until
    `aclose`."""

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        api_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Use `account_sid`; `api_url` (`http(s)://host:port`) replaces Twilio's address."""
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._api_url = api_url
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._http: _HttpClient | None = None

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call. A call that has already ended is not an error.

        Raises:
            CarrierError: Twilio refused the request, or could not be reached in `ATTEMPTS` attempts.
        """
        try:
            await self._try("hang up", lambda: self._call(carrier_call_id).update_async(status="completed"))
        except CarrierError as error:
            if not _is_over(error):
                raise
            logger.debug("call {} was already gone", carrier_call_id)

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Give a live call TwiML that dials another number. Not retried if the number may be ringing.

        Raises:
            CarrierError: Twilio refused the request (the call has ended, the number is invalid), or could not
                be reached.
        """
        twiml = transfer_twiml(transfer)
        await self._try(
            "transfer", lambda: self._call(carrier_call_id).update_async(twiml=twiml), repeatable=False
        )

    async def dial(self, request: DialRequest) -> str:
        """Place a call and return its CallSid. Not retried if the number may be ringing.

        Raises:
            CarrierError: Twilio refused the request, or could not be reached; `uncertain` if the call may
                have been placed.
        """
        call = await self._try("dial", lambda: self._create(request), repeatable=False)
        return str(call.sid)

    async def join(self, carrier_call_id: str, join: ConferenceJoin) -> None:
        """Give a live call TwiML that moves it into a conference. Not retried if it may have been done.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: Twilio refused the request, or could not be reached.
        """
        await self._redirect(carrier_call_id, "join", twiml=join_twiml(join))

    async def leave_message(self, carrier_call_id: str, text: str, language: str, pause_s: int) -> None:
        """Give a live call TwiML that says a text and hangs up. Not retried if it may have been done.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: Twilio refused the request, or could not be reached.
        """
        await self._redirect(carrier_call_id, "leave a message", twiml=message_twiml(text, language, pause_s))

    async def redirect(self, carrier_call_id: str, url: str) -> None:
        """Have Twilio request new TwiML for a live call at `url`.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: Twilio refused the request, or could not be reached.
        """
        await self._redirect(carrier_call_id, "redirect", url=url, method="POST")

    async def is_live(self, carrier_call_id: str) -> bool:
        """Whether a call has not ended; one that Twilio does not know has.

        Raises:
            CarrierError: Twilio could not be reached.
        """
        try:
            call = await self._try("fetch", lambda: self._call(carrier_call_id).fetch_async())
        except CarrierError as error:
            if _is_over(error):
                return False
            raise
        return str(call.status) in LIVE_STATUSES

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """CallSids of calls between two numbers that were made since a moment.

        Raises:
            CarrierError: Twilio could not be reached.
        """
        found = await self._try("list", lambda: self._calls().list_async(to=to, from_=from_, limit=MAX_FOUND))
        return [
            str(call.sid)
            for call in found
            if call.date_created is None or call.date_created >= since.replace(microsecond=0)
        ]

    async def check_account(self) -> None:
        """List a call, to find out whether the credentials are valid.

        Raises:
            CarrierError: Twilio refused them, or could not be reached.
        """
        await self._try("list", lambda: self._calls().list_async(limit=1))

    async def voice_url_of(self, e164: str) -> str | None:
        """The voice webhook of a number, "" if it has none; None: the account has no such number.

        Raises:
            CarrierError: Twilio refused the request, or could not be reached.
        """
        numbers = self._resources().incoming_phone_numbers
        found = await self._try("list numbers", lambda: numbers.list_async(phone_number=e164, limit=1))
        return str(found[0].voice_url or "") if found else None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _calls(self) -> Any:
        return self._resources().calls

    def _resources(self) -> Any:
        if self._http is None:  # needs the running loop, so not in __init__
            self._http = _HttpClient(self._api_url, self._timeout_s)
        client = Client(self._account_sid, self._auth_token, http_client=self._http)
        # `client.calls` would import `Api` on first use, which blocks the event loop for 0.7 s.
        return Api(client).account

    def _call(self, carrier_call_id: str) -> Any:
        return self._calls()(quote(carrier_call_id, safe=""))

    def _create(self, request: DialRequest) -> Awaitable[Any]:
        created: Awaitable[Any] = self._calls().create_async(
            to=request.to,
            from_=request.from_,
            url=request.answer_url,
            method="POST",
            status_callback=request.status_url,
            status_callback_method="POST",
            status_callback_event=PROGRESS_EVENTS,
            timeout=request.ring_timeout_s,
            **_machine_detection(request),
        )
        return created

    async def _redirect(self, carrier_call_id: str, what: str, **instructions: str) -> None:
        try:
            await self._try(
                what, lambda: self._call(carrier_call_id).update_async(**instructions), repeatable=False
            )
        except CarrierError as error:
            raise CallIsOver(error) if _is_over(error) else error from None

    async def _try(self, what: str, request: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """Send a request; retry it after a wait if that is safe and may help."""
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await request()
            except CarrierError as error:
                wait = _wait_before_next(error, attempt)
                is_final = not error.retryable or (error.uncertain and not repeatable)
                if is_final or attempt == ATTEMPTS or waited + wait > LONGEST_WAIT_S:
                    raise
                waited += wait
                logger.warning("Twilio: {} failed ({}), again in {:.2f} s", what, error, wait)
                await self._sleep(wait)
            except (TwilioException, ValueError, KeyError) as error:
                raise CarrierError(
                    f"Twilio's response to '{what}' cannot be parsed", status=200, uncertain=True
                ) from error
        raise AssertionError("the last attempt returns or raises")


def _machine_detection(request: DialRequest) -> dict[str, str]:
    """The parameters of https://www.twilio.com/docs/voice/answering-machine-detection."""
    if request.machine_url is None:
        return {"machine_detection": "Enable"} if request.detect_machine else {}
    return {
        "machine_detection": "DetectMessageEnd" if request.until_beep else "Enable",
        "async_amd": "true",
        "async_amd_status_callback": request.machine_url,
        "async_amd_status_callback_method": "POST",
    }


def _is_over(error: CarrierError) -> bool:
    return error.status == 404 or error.code in CALL_GONE_CODES


def _wait_before_next(error: CarrierError, attempt: int) -> float:
    """Seconds to wait: as requested by Twilio, else exponential from `BACKOFF_S` with 10 % jitter."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    doubled: float = BACKOFF_S * 2.0 ** (attempt - 1)
    return doubled * SystemRandom().uniform(0.9, 1.1)


def _refusal(response: Response) -> CarrierError:
    """The error for a response with status 400 or higher; its body is `{"code": 21211, "message": "…",
    …}`."""
    status = int(response.status_code)
    try:
        body = json.loads(response.text)
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    code = None if body.get("code") is None else str(body["code"])
    detail = str(body.get("message") or "no message")[:200]
    return CarrierError(
        f"Twilio refused with HTTP {status}, code {code}: {detail}",
        status=status,
        code=code,
        retryable=status in (408, 429) or status >= 500,
        retry_after_s=_seconds(response.headers.get("Retry-After")) if response.headers else None,
        uncertain=status == 408 or status >= 500,
        account_refused=status == 401 or code in ACCOUNT_CODES,
    )


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; None if absent or a date, which Twilio does not use."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None
