"""Exotel's REST API: placing calls, and asking for their details.

Sources: developer.exotel.com, "Connect Number to Call Flow" and "Call Details". Answers are JSON, or XML
where the address has no `.json`. More than 200 calls a minute are answered with 429.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout

from telephony.carrier import DialRequest
from telephony.errors import CarrierError
from telephony.exotel import outcomes
from telephony.exotel.fields import field_text, json_object
from telephony.exotel.messages import DEFAULT_RATE
from telephony.exotel.numbers import e164
from telephony.exotel.webhooks import stream_url
from telephony.webhook import EndReason

API_URL = "https://api.exotel.com"
FLOW_URL = "http://my.exotel.com/{}/exoml/start_voice/{}"
"""The flow that a placed call follows: the account, and the id of the flow. Exotel requests nothing there."""
TIMEOUT_S = 5.0
TIME_LIMIT_S = 14_400
"""The longest call that Exotel places."""
MAX_STREAM_URL = 600
RATE_LIMIT_PAUSE_S = 60.0
"""How long to wait after 429 if Exotel does not say: its limit is one of calls in a minute."""

ENDED_STATUSES = frozenset(word for word, (progress, _) in outcomes.STATUSES.items() if progress == "ended")
_INDIA = timezone(timedelta(hours=5, minutes=30))
"""The time zone of times without one."""
_SID_IN_XML = re.compile(r"<Sid>([^<]+)</Sid>")
_MESSAGE_IN_XML = re.compile(r"<Message>([^<]+)</Message>")


class ExotelRest:
    """The REST API for the calls of one account. Connections are kept until `aclose`."""

    def __init__(
        self,
        account_sid: str,
        api_key: str,
        api_token: str,
        *,
        api_url: str | None = None,
        flow_id: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Use `account_sid`; `api_url` (`http(s)://host:port`) replaces Exotel's address.

        Calls that are placed follow the flow `flow_id`; None: their audio is streamed directly.
        """
        self._has_account = bool(account_sid and api_key and api_token)
        self._base = f"{(api_url or API_URL).rstrip('/')}/v1/Accounts/{quote(account_sid, safe='')}"
        self._authorization = "Basic " + base64.b64encode(f"{api_key}:{api_token}".encode()).decode()
        self._flow_url = flow_id and FLOW_URL.format(quote(account_sid, safe=""), quote(flow_id, safe=""))
        self._timeout_s = timeout_s
        self.sample_rate = DEFAULT_RATE
        """The rate that streams are asked for, in Hz."""
        self._session: ClientSession | None = None

    @property
    def dials_into_flow(self) -> bool:
        """Whether calls that are placed follow a flow."""
        return self._flow_url is not None

    async def hang_up(self, carrier_call_id: str) -> None:
        """Nothing is requested: a call ends when its media socket closes, by the flow or at once."""

    async def dial(self, request: DialRequest) -> str:
        """Place a call and return its CallSid.

        When it is answered it follows the flow, whose applets are told our id of the call (`CustomField`), or
        its audio is streamed to us.

        Raises:
            CarrierError: Exotel refused the request, or could not be reached; `uncertain` if the call may
                have been placed.
        """
        form = [
            ("From", request.to),
            ("CallerId", request.from_),
            *self._when_answered(request),
            ("TimeLimit", str(TIME_LIMIT_S)),
            ("TimeOut", str(request.ring_timeout_s)),
            ("StatusCallback", request.status_url),
            ("StatusCallbackEvents[0]", "terminal"),
            ("StatusCallbackEvents[1]", "answered"),
        ]
        text = await self._send("POST", "/Calls/connect", form)
        sid = str(_call_of(text).get("Sid") or "")
        found = None if sid else _SID_IN_XML.search(text)
        if not sid and found is None:
            raise CarrierError("Exotel's answer does not name the call", status=200, uncertain=True)
        return sid or str(found and found.group(1))

    def _when_answered(self, request: DialRequest) -> list[tuple[str, str]]:
        if self._flow_url:
            return [("Url", self._flow_url), ("CustomField", request.reference)]
        url = stream_url(request.media_url, request.token, self.sample_rate)
        if len(url) > MAX_STREAM_URL:
            raise CarrierError(f"the stream's URL has more than {MAX_STREAM_URL} characters", status=0)
        return [("StreamUrl", url), ("StreamType", "bidirectional")]

    async def is_live(self, carrier_call_id: str) -> bool:
        """Whether a call has not ended.

        Raises:
            CarrierError: Exotel could not be reached, or does not know the call.
        """
        return str((await self._details(carrier_call_id)).get("Status") or "").lower() not in ENDED_STATUSES

    async def connected_outcome(self, carrier_call_id: str) -> EndReason | None:
        """How a call with a second party ended, by Call Details; None: there was no second party.

        Raises:
            CarrierError: Exotel could not be reached.
        """
        return outcomes.of_details(json_object((await self._details(carrier_call_id)).get("Details")))

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """CallSids of calls to a number that were placed from one of ours since a moment.

        Raises:
            CarrierError: Exotel could not be reached.
        """
        moment = since.astimezone(_INDIA).strftime("%Y-%m-%d %H:%M:%S")
        query = {"DateCreated": f"gte:{moment}", "From": to, "PhoneNumber": from_}
        found = json_object(await self._send("GET", "/Calls.json", query=query)).get("Calls")
        return [
            str(call.get("Sid"))
            for call in (found if isinstance(found, list) else [])
            if isinstance(call, dict)
            and e164(str(call.get("From") or "")) == to
            and e164(str(call.get("PhoneNumber") or call.get("PhoneNumberSid") or from_)) == from_
        ]

    async def check_account(self) -> None:
        """List a call, to find out whether the credentials are valid.

        Raises:
            CarrierError: Exotel refused them, or could not be reached.
        """
        await self._send("GET", "/Calls.json", query={"PageSize": "1"})

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _details(self, carrier_call_id: str) -> Mapping[str, Any]:
        path = f"/Calls/{quote(carrier_call_id, safe='')}.json"
        return _call_of(await self._send("GET", path, query={"details": "true"}))

    async def _send(
        self,
        method: str,
        path: str,
        form: Sequence[tuple[str, str]] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """Send a request and return the text of its answer."""
        if not self._has_account:
            raise CarrierError("set EXOTEL_ACCOUNT_SID, EXOTEL_API_KEY and EXOTEL_API_TOKEN", status=0)
        if self._session is None:  # needs the running loop
            headers = {"Authorization": self._authorization, "Accept": "application/json"}
            self._session = ClientSession(headers=headers, timeout=ClientTimeout(total=self._timeout_s))
        try:
            async with self._session.request(method, self._base + path, data=form, params=query) as response:
                text = await response.text()
                status, retry_after = response.status, response.headers.get("Retry-After")
        except ClientConnectorError as error:
            raise CarrierError("Exotel cannot be reached", status=0, retryable=True) from error
        except (TimeoutError, ClientError, OSError, UnicodeDecodeError) as error:
            raise CarrierError(
                f"Exotel did not respond ({type(error).__name__})", status=0, retryable=True, uncertain=True
            ) from error
        if status >= 400:
            raise _refusal(status, text, retry_after)
        return text


def _refusal(status: int, text: str, retry_after: str | None) -> CarrierError:
    """The error of a refused request: `{"RestException": {"Status", "Message"}}`, or the same as XML."""
    in_xml = _MESSAGE_IN_XML.search(text)
    message = field_text(json_object(json_object(text).get("RestException")), "Message")
    message = message or (in_xml[1] if in_xml else "no message")
    pause_s = RATE_LIMIT_PAUSE_S if status == 429 else None
    if retry_after is not None and retry_after.strip().isdigit():
        pause_s = float(retry_after)
    return CarrierError(
        f"Exotel refused with HTTP {status}: {message[:200]}",
        status=status,
        retryable=status in (408, 429) or status >= 500,
        retry_after_s=pause_s,
        uncertain=status == 408 or status >= 500,
        account_refused=status in (401, 402, 403),
    )


def _call_of(text: str) -> Mapping[str, Any]:
    return json_object(json_object(text).get("Call"))
