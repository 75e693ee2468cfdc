"""Twilio's REST API for calls, as far as voicebot uses it, acting on the calls of a simulated carrier.

Sources: twilio.com/docs/voice/api/call-resource (paths, parameters, resource), /docs/usage/twilios-response
(the shape of an error), /docs/api/errors (the codes). Requests are form-encoded, answers JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voicebot.sandbox.carrier import Call, Carrier, Document, Fetch, Leg, Misbehaviour, TwimlError
from voicebot.sandbox.carrier.call import Over
from voicebot.sandbox.carrier.twiml import parse
from voicebot.sandbox.carrier.webhooks import API_VERSION

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


def app(carrier: Carrier) -> Starlette:
    """Build the server; run it with uvicorn and point the `twilio` package (or TWILIO_API_URL) at it."""
    api = _Calls(carrier)
    base = f"/{API_VERSION}/Accounts/{{account}}/Calls"
    return Starlette(
        routes=[
            Route(f"{base}.json", api.create, methods=["POST"]),
            Route(f"{base}/{{sid}}.json", api.update, methods=["POST"]),
            Route(f"{base}/{{sid}}.json", api.fetch, methods=["GET"]),
        ],
        exception_handlers={RestError: _refuse, 404: _no_such_path},
    )


class _Calls:
    """The Calls resource of one account."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def create(self, request: Request) -> Response:
        """Place a call; it is queued when the answer leaves."""
        self._authenticate(request)
        form = await _form(request)
        leg = Leg(
            from_=_number(form, "From", 21212),
            to=_number(form, "To", 21211),
            direction="outbound-api",
            status_url=_url(form, "StatusCallback", None),
            status_events=_events(form),
            person=None,
            wrong=Misbehaviour(),
        )
        call = self._carrier.dial(leg, _next(form), _seconds(form))
        return JSONResponse(_resource(call), status_code=201)

    async def update(self, request: Request) -> Response:
        """End a live call, or lead it to other TwiML."""
        call = self._call(request)
        form = await _form(request)
        status = _one(form, "Status")
        if status not in (None, "completed", "canceled"):
            raise RestError(400, 20001, f"Invalid Status: {status}")
        if not call.live:
            raise RestError(400, 21220, "Unable to update record. Call is not in-progress. Cannot redirect.")
        if status == "completed" or (status == "canceled" and call.answered_at is None):
            final = "completed" if call.answered_at else "canceled"
            call.order(Over(status="completed" if final == "completed" else "canceled", by="rest"))
        elif status is None:
            call.order(_next(form))
        return JSONResponse(_resource(call))

    async def fetch(self, request: Request) -> Response:
        """Show a call, live or over."""
        return JSONResponse(_resource(self._call(request)))

    def _call(self, request: Request) -> Call:
        self._authenticate(request)
        call = self._carrier.calls.get(request.path_params["sid"])
        if call is None:
            raise RestError(404, 20404, f"The requested resource {request.url.path} was not found")
        return call

    def _authenticate(self, request: Request) -> None:
        settings = self._carrier.settings
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(credentials, validate=True)
        except binascii.Error:
            given = b""
        expected = f"{settings.account_sid}:{settings.auth_token}".encode()
        if scheme.lower() != "basic" or not secrets.compare_digest(given, expected):
            raise RestError(401, 20003, "Authenticate")
        if request.path_params["account"] != settings.account_sid:
            raise RestError(404, 20404, f"The requested resource {request.url.path} was not found")


async def _form(request: Request) -> Form:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise RestError(415, 20415, f"Unsupported media type: {kind}")
    return parse_qs((await request.body()).decode(), keep_blank_values=True)


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


def _url(form: Form, name: str, default: str | None) -> str | None:
    url = _one(form, name) or default
    if url is not None and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname):
        raise RestError(400, 21609 if name == "StatusCallback" else 21205, f"{name} is not a valid URL")
    return url


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
    url = _url(form, "Url", None)
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
        "answered_by": None,
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


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, RestError):
        raise error
    return _error(error.status, error.code, str(error))


async def _no_such_path(request: Request, _: Exception) -> Response:
    return _error(404, 20404, f"The requested resource {request.url.path} was not found")


def _error(status: int, code: int, message: str) -> Response:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if status == 401 else {}
    return JSONResponse(body, status_code=status, headers=headers)
