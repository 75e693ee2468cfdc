"""Twilio's REST API for calls, as far as voicebot uses it, acting on the calls of a simulated carrier.

Sources: twilio.com/docs/voice/api/call-resource (paths, parameters, resource), /docs/usage/twilios-response
(the shape of an error), /docs/api/errors (the codes). Requests are form-encoded, answers JSON.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from voicebot.sandbox.carrier import Call, Carrier, Document, Fetch, Leg, Misbehaviour, TwimlError
from voicebot.sandbox.carrier.call import Over
from voicebot.sandbox.carrier.twiml import parse
from voicebot.sandbox.carrier.webhooks import API_VERSION
from voicebot.sandbox.vendors.faults import Faults
from voicebot.sandbox.vendors.vendor import Handler, Vendor

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
_RING_S = 60.0

Form = Mapping[str, list[str]]


class RestError(Exception):
    """A request that Twilio refuses; `code` is Twilio's own, `status` HTTP's."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class TwilioRest:
    """The Calls resource of a carrier's account, with faults to order.

    Run `application()` with aiohttp, and point voicebot (TWILIO_API_URL) or the `twilio` package at it.
    """

    def __init__(self, carrier: Carrier, faults: Faults | None = None) -> None:
        self._carrier = carrier
        settings = carrier.settings
        self.vendor = Vendor(
            server="twilio",
            key=f"{settings.account_sid}:{settings.auth_token}",
            presented=_credentials,
            error=_error,
            faults=faults or Faults(),
        )

    def application(self) -> web.Application:
        """Build the server."""
        base = f"/{API_VERSION}/Accounts/{self._carrier.settings.account_sid}/Calls"
        application = self.vendor.application()
        application.middlewares.append(_refusals)
        application.add_routes(
            [
                web.post(f"{base}.json", self._create),
                web.get(f"{base}.json", self._list),
                web.post(base + "/{sid}.json", self._update),
                web.get(base + "/{sid}.json", self._fetch),
                web.get(base.replace("/Calls", "/IncomingPhoneNumbers.json"), self._numbers),
            ]
        )
        return application

    async def _create(self, request: web.Request) -> web.Response:
        """Place a call; it is queued when the answer leaves."""
        form = await _form(request)
        leg = Leg(
            from_=_number(form, "From", 21212),
            to=_number(form, "To", 21211),
            direction="outbound-api",
            status_url=_url(form, "StatusCallback"),
            status_events=_events(form),
            person=None,
            wrong=Misbehaviour(),
            detects_machine=_one(form, "MachineDetection") is not None and _one(form, "AsyncAmd") != "true",
            machine_url=_url(form, "AsyncAmdStatusCallback") if _one(form, "AsyncAmd") == "true" else None,
            until_beep=_one(form, "MachineDetection") == "DetectMessageEnd",
        )
        call = self._carrier.dial(leg, _next(form), _seconds(form))
        return web.json_response(_resource(call), status=201)

    async def _update(self, request: web.Request) -> web.Response:
        """End a live call, or lead it to other TwiML."""
        call = self._call(request)
        form = await _form(request)
        status = _one(form, "Status")
        if status not in (None, "completed", "canceled"):
            raise RestError(400, 20001, f"Invalid Status: {status}")
        if not call.live:
            raise RestError(400, 21220, "Unable to update record. Call is not in-progress. Cannot redirect.")
        if status is None:
            call.order(_next(form))
        elif call.answered_at is None:
            call.order(Over(status="canceled", by="rest"))
        elif status == "completed":
            call.order(Over(status="completed", by="rest"))
        return web.json_response(_resource(call))

    async def _list(self, request: web.Request) -> web.Response:
        """List calls between two numbers, newest first, on one page."""
        wanted = request.query
        found = [
            _resource(call)
            for call in reversed(self._carrier.calls.values())
            if wanted.get("From") in (None, call.leg.from_) and wanted.get("To") in (None, call.leg.to)
        ]
        page = {"page": 0, "page_size": 50, "uri": request.path, "next_page_uri": None}
        return web.json_response({"calls": found, **page})

    async def _fetch(self, request: web.Request) -> web.Response:
        """Show a call, live or over."""
        return web.json_response(_resource(self._call(request)))

    async def _numbers(self, request: web.Request) -> web.Response:
        """List the account's numbers: those with a voice webhook in the settings."""
        wanted = request.query.get("PhoneNumber")
        found = [
            {"sid": f"PN{index:032x}", "phone_number": number, "voice_url": url}
            for index, (number, url) in enumerate(self._carrier.settings.numbers.items())
            if wanted in (None, number)
        ]
        page = {"page": 0, "page_size": 50, "uri": request.path, "next_page_uri": None}
        return web.json_response({"incoming_phone_numbers": found, **page})

    def _call(self, request: web.Request) -> Call:
        call = self._carrier.calls.get(request.match_info["sid"])
        if call is None:
            raise RestError(404, 20404, f"The requested resource {request.path} was not found")
        return call


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The text of a refusal as Twilio writes it."""
    try:
        return await handler(request)
    except RestError as error:
        return web.json_response(_body(error.status, error.code, str(error)), status=error.status)
    except web.HTTPNotFound:
        message = f"The requested resource {request.path} was not found"
        return web.json_response(_body(404, 20404, message), status=404)


def _credentials(headers: Mapping[str, str]) -> str:
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return given if scheme.lower() == "basic" else ""


async def _form(request: web.Request) -> Form:
    if request.content_type != "application/x-www-form-urlencoded":
        raise RestError(415, 20415, f"Unsupported media type: {request.content_type}")
    return parse_qs(await request.text(), keep_blank_values=True)


def _one(form: Form, name: str) -> str | None:
    values = form.get(name, [])
    return values[-1] if values else None


def _number(form: Form, name: str, code: int) -> str:
    number = _one(form, name)
    if not number:
        raise RestError(400, 21201 if name == "To" else 21213, f"No '{name}' number is specified")
    if not _E164.fullmatch(number):
        raise RestError(400, code, f"The phone number you are attempting to use as '{name}' is not valid.")
    return number


def _url(form: Form, name: str) -> str | None:
    url = _one(form, name)
    if url and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname):
        raise RestError(400, 21609 if name == "StatusCallback" else 21205, f"{name} is not a valid URL")
    return url or None


def _events(form: Form) -> frozenset[str]:
    """Read StatusCallbackEvent: repeated, or several names in one; the default is completed."""
    events = frozenset(" ".join(form.get("StatusCallbackEvent", ["completed"])).split())
    if not events <= _EVENTS:
        raise RestError(400, 21626, "Invalid StatusCallbackEvents: " + ", ".join(sorted(events - _EVENTS)))
    return events


def _seconds(form: Form) -> float:
    written = _one(form, "Timeout")
    try:
        return float(written) if written else _RING_S
    except ValueError as error:
        raise RestError(400, 20001, "Timeout is not a number") from error


def _next(form: Form) -> Fetch | Document:
    """Read where the call shall go: Twiml wins over Url, as with Twilio."""
    twiml = _one(form, "Twiml")
    if twiml:
        try:
            return Document(verbs=parse(twiml), base="")
        except TwimlError as error:
            raise RestError(400, 12100, f"Invalid TwiML: {error}") from error
    url = _url(form, "Url")
    if url is None:
        raise RestError(400, 21205, "Url parameter is required.")
    method = _one(form, "Method") or "POST"
    if method not in ("GET", "POST"):
        raise RestError(400, 20001, f"Invalid Method: {method}")
    return Fetch(url=url, method=method)


def _resource(call: Call) -> dict[str, object]:
    """Show a call as Twilio does."""
    account, sid = call.settings.account_sid, call.sid
    path = f"/{API_VERSION}/Accounts/{account}/Calls/{sid}"
    return {
        "sid": sid,
        "account_sid": account,
        "api_version": API_VERSION,
        "annotation": None,
        "answered_by": call.answered_by,
        "caller_name": None,
        "date_created": _date(call.created_at),
        "date_updated": _date(call.updated_at),
        "direction": call.leg.direction,
        "duration": None if call.live else str(call.duration_s),
        "end_time": _date(call.ended_at),
        "forwarded_from": None,
        "from": call.leg.from_,
        "from_formatted": call.leg.from_,
        "group_sid": None,
        "parent_call_sid": None,
        "phone_number_sid": None,
        "price": None,
        "price_unit": "USD",
        "queue_time": "0",
        "start_time": _date(call.answered_at),
        "status": call.status,
        "subresource_uris": {
            name: f"{path}/{name.title()}.json" for name in ("notifications", "recordings", "streams")
        },
        "to": call.leg.to,
        "to_formatted": call.leg.to,
        "trunk_sid": None,
        "uri": f"{path}.json",
    }


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else format_datetime(moment)


_GENERAL = {
    401: (20003, "Authenticate"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
}


def _error(status: int) -> dict[str, object]:
    """Word an error that says nothing but its status (twilio.com/docs/api/errors/20003, /20429, /20500)."""
    code, message = _GENERAL[status]
    return _body(status, code, message)


def _body(status: int, code: int, message: str) -> dict[str, object]:
    return {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
