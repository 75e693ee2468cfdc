"""Signed webhooks, as Twilio sends them.

Sources: twilio.com/docs/usage/security#validating-requests (signature over address and sorted parameters),
/docs/voice/twiml (the parameters of a request), /docs/voice/api/call-resource#statuscallback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
from twilio.request_validator import RequestValidator

from voicebot.sandbox.carrier.log import CallLog
from voicebot.sandbox.carrier.model import CarrierSettings, WebhookFailed

API_VERSION = "2010-04-01"
_GEOGRAPHY = ("City", "State", "Zip", "Country")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a webhook was answered."""

    status: int
    content_type: str
    body: str


class Webhooks:
    """The way from the carrier to one server: signs, maps the public address to the real one, posts."""

    def __init__(self, settings: CarrierSettings) -> None:
        self._settings = settings
        # A connection that is kept may be closed by the server in the moment in which it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(timeout=settings.webhook_timeout_s, limits=limits, trust_env=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def signature(self, url: str, params: Mapping[str, str], auth_token: str | None = None) -> str:
        """Compute X-Twilio-Signature over a public address; `auth_token` replaces the account's."""
        validator = RequestValidator(auth_token or self._settings.auth_token)
        return str(validator.compute_signature(url, dict(params)))

    def reach(self, url: str) -> tuple[str, dict[str, str]]:
        """Return where to connect for a public address, and the headers that a proxy in between would add."""
        public, server = self._settings.public_url, self._settings.server_url
        if server is None or urlsplit(url).netloc != urlsplit(public).netloc:
            return url, {}
        there = urlsplit(server)
        secure = there.scheme == "https"
        socket = urlsplit(url).scheme.startswith("ws")
        scheme = ("wss" if secure else "ws") if socket else there.scheme
        forwarded = {
            "X-Forwarded-Proto": urlsplit(public).scheme,
            "X-Forwarded-Host": urlsplit(public).netloc,
        }
        return urlunsplit(urlsplit(url)._replace(scheme=scheme, netloc=there.netloc)), forwarded

    async def send(
        self, url: str, params: Mapping[str, str], *, method: str = "POST", sign_with: str | None = None
    ) -> Answer:
        """Send one signed request; with GET the parameters are part of the address that is signed.

        Raises:
            WebhookFailed: no answer in time, or none at all. Any status is an answer.
        """
        if method == "GET":
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}"
            signature, body = self.signature(url, {}, sign_with), None
        else:
            signature, body = self.signature(url, params, sign_with), dict(params)
        address, forwarded = self.reach(url)
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1", **forwarded}
        try:
            response = await self._client.request(method, address, data=body, headers=headers)
        except httpx.HTTPError as error:
            raise WebhookFailed(f"{method} {urlsplit(url).path}: {type(error).__name__}") from error
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            body=response.text,
        )

    async def download(self, url: str) -> bytes:
        """Get a file, unsigned.

        Raises:
            WebhookFailed: no answer in time, or one that is not 2xx.
        """
        address, forwarded = self.reach(url)
        try:
            response = (await self._client.get(address, headers=forwarded)).raise_for_status()
        except httpx.HTTPError as error:
            raise WebhookFailed(f"GET {urlsplit(url).path}: {type(error).__name__}") from error
        return response.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A report of the carrier, to be posted."""

    url: str
    params: Mapping[str, str]
    method: str = "POST"


class Callbacks:
    """The reports of one call, sent one after the other."""

    def __init__(self, webhooks: Webhooks, log: CallLog, sign_with: str | None) -> None:
        self._webhooks = webhooks
        self._log = log
        self._sign_with = sign_with
        self._queue: asyncio.Queue[Callback | None] = asyncio.Queue()

    def add(self, callback: Callback) -> None:
        """Queue a report."""
        self._queue.put_nowait(callback)

    def finish(self) -> None:
        """End `deliver` when the queue is empty."""
        self._queue.put_nowait(None)

    async def deliver(self) -> None:
        """Send queued requests until `finish`; a failed one is recorded and not repeated, as with Twilio."""
        while (callback := await self._queue.get()) is not None:
            try:
                answer = await self._webhooks.send(
                    callback.url, callback.params, method=callback.method, sign_with=self._sign_with
                )
            except WebhookFailed as error:
                self._log.note("complaint", code=11200, why=f"callback: {error}")
                continue
            self._log.note("callback", url=callback.url, status=answer.status, params=callback.params)


def call_params(
    *, sid: str, account_sid: str, from_: str, to: str, status: str, direction: str
) -> dict[str, str]:
    """Build the parameters that every voice request carries; unknown places are empty, as from Twilio."""
    params = {
        "AccountSid": account_sid,
        "ApiVersion": API_VERSION,
        "CallSid": sid,
        "CallStatus": status,
        "Called": to,
        "Caller": from_,
        "Direction": direction,
        "From": from_,
        "To": to,
    }
    for who in ("Called", "Caller", "From", "To"):
        for place in _GEOGRAPHY:
            params[f"{who}{place}"] = "US" if place == "Country" else ""
    return params
