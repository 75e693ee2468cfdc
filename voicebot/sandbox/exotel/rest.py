"""Exotel's REST API for calls, as far as voicebot uses it, acting on the calls of a simulated Exotel.

Sources: developer.exotel.com, "Connect Number to Call Flow" and "Call Details".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from aiohttp import web

from voicebot.sandbox.exotel.call import ExotelCall
from voicebot.sandbox.exotel.carrier import Exotel
from voicebot.sandbox.vendors.faults import Faults
from voicebot.sandbox.vendors.vendor import Vendor

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_EVENTS = frozenset({"answered", "terminal", "ringing"})
_MAX_STREAM_URL = 600
_MAX_CUSTOM_FIELD = 128
_MAX_TIME_LIMIT_S = 14_400
_INDIA = ZoneInfo("Asia/Kolkata")


class ExotelRest:
    """The Calls resource of an account, with faults to order."""

    def __init__(self, carrier: Exotel, faults: Faults | None = None) -> None:
        """Run `application()` with aiohttp, and point voicebot (EXOTEL_API_URL) at it."""
        self._carrier = carrier
        settings = carrier.settings
        self.vendor = Vendor(
            server="exotel",
            key=f"{settings.api_key}:{settings.api_token}",
            presented=_credentials,
            error=lambda status: _exception(status, "Refused"),
            faults=faults or Faults(),
        )

    def application(self) -> web.Application:
        """Build the server."""
        base = f"/v1/Accounts/{self._carrier.settings.account_sid}/Calls"
        application = self.vendor.application()
        application.add_routes(
            [
                web.post(f"{base}/connect", self._create),
                web.get(f"{base}.json", self._list),
                web.get(base + "/{sid}.json", self._details),
            ]
        )
        return application

    async def _create(self, request: web.Request) -> web.Response:
        """Place a call; it is queued when the answer leaves."""
        form = {name: values[-1] for name, values in parse_qs(await request.text()).items()}
        settings = self._carrier.settings
        flow = f"http://my.exotel.com/{settings.account_sid}/exoml/start_voice/{settings.flow_id}"
        problem = _problem(form, flow)
        if problem is not None:
            return web.json_response(_exception(400, problem), status=400)
        events = {value for name, value in form.items() if name.startswith("StatusCallbackEvents[")}
        url = form.get("StatusCallback")

        async def report(call: ExotelCall, event: str) -> None:
            if url is not None and event in events:
                fields = {"CallSid": call.sid, "EventType": event, "Status": call.status}
                answer = await self._carrier.request(url, fields, method="POST")
                call.log("callback", status=answer.status_code, event=event)

        call = self._carrier.dial(
            from_=form["CallerId"],
            to=form["From"],
            stream_url=form.get("StreamUrl"),
            custom_field=form.get("CustomField", ""),
            ring_s=float(form.get("TimeOut", "30")),
            on_status=report,
        )
        return web.json_response({"Call": _resource(call)})

    async def _list(self, request: web.Request) -> web.Response:
        """List calls, newest first, on one page."""
        wanted = request.query
        found = [
            _resource(call)
            for call in reversed(self._carrier.calls.values())
            if wanted.get("From") in (None, _person(call))
            and wanted.get("PhoneNumber") in (None, _number(call))
        ]
        return web.json_response({"Calls": found})

    async def _details(self, request: web.Request) -> web.Response:
        """Show a call, live or over, with its legs."""
        call = self._carrier.calls.get(request.match_info["sid"])
        if call is None:
            return web.json_response(_exception(404, "Not Found"), status=404)
        seconds = [1, *(leg.talked_s for leg in call.legs)]
        details = {
            "Leg1Status": "completed",
            "Leg2Status": call.legs[-1].status if call.legs else None,
            "Legs": [{"Leg": {"Id": number, "OnCallDuration": s}} for number, s in enumerate(seconds, 1)],
        }
        return web.json_response({"Call": {**_resource(call), "Details": details}})


def _problem(form: Mapping[str, str], flow: str) -> str | None:
    """Why a call cannot be placed, into the flow or with a stream; None: it can."""
    if not (_E164.fullmatch(form.get("From", "")) and _E164.fullmatch(form.get("CallerId", ""))):
        return "From and CallerId must be numbers"
    what = _what_problem(form, flow)
    if what is not None:
        return what
    if len(form.get("CustomField", "")) > _MAX_CUSTOM_FIELD:
        return "CustomField is too long"
    if int(form.get("TimeLimit", "0")) > _MAX_TIME_LIMIT_S:
        return "TimeLimit is too long"
    events = {value for name, value in form.items() if name.startswith("StatusCallbackEvents[")}
    return None if events <= _EVENTS else "unknown StatusCallbackEvents"


def _what_problem(form: Mapping[str, str], flow: str) -> str | None:
    if ("Url" in form) == ("StreamUrl" in form):
        return "either Url or StreamUrl must be given"
    if "Url" in form:
        return None if form["Url"] == flow else "Url must be that of a flow of this account"
    url = form["StreamUrl"]
    if urlsplit(url).scheme not in ("ws", "wss") or len(url) > _MAX_STREAM_URL:
        return "StreamUrl must be a websocket's, of 600 characters at most"
    return None if form.get("StreamType") == "bidirectional" else "StreamType must be bidirectional"


def _person(call: ExotelCall) -> str:
    return call.from_ if call.direction == "incoming" else call.to


def _number(call: ExotelCall) -> str:
    return call.to if call.direction == "incoming" else call.from_


def _resource(call: ExotelCall) -> dict[str, object]:
    """Show a call as Exotel does: `From` is the person, in both directions."""
    return {
        "Sid": call.sid,
        "DateCreated": call.created_at.astimezone(_INDIA).strftime("%Y-%m-%d %H:%M:%S"),
        "From": _person(call),
        "PhoneNumberSid": _number(call),
        "Status": call.status,
        "Direction": "inbound" if call.direction == "incoming" else "outbound-api",
    }


def _credentials(headers: Mapping[str, str]) -> str:
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return given if scheme.lower() == "basic" else ""


def _exception(status: int, message: str) -> dict[str, object]:
    return {"RestException": {"Status": status, "Message": message}}
