"""``CarrierRequest``: one request of a carrier, the argument of every webhook function."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request

from db.calls import CallRecord
from db.number_fallbacks import NumberFallback
from telephony.webhook import AnswerUrls, WebhookReply, WebhookRequest
from voicebot.api.app_state import AppState
from voicebot.config import websocket_url

RESUMES = "resumes"
"""The parameter of the resume URL: how many times the call had been resumed when the URL was made."""

WAITING_SINCE = "waiting_since"
"""The parameter of a webhook that is repeated because the database does not answer: since when, in ms."""

MAX_RESUMES = 3
"""How many times a call is connected again after its stream was lost."""

TTS_UNAVAILABLE = "tts_unavailable"
"""The end reason of a call for which no TTS service worked."""

NO_CAPACITY = "no_capacity"
"""The end reason of a call that was not answered because the process was full."""

NO_CONTENT = WebhookReply(status=204, content_type="text/plain", body="")


def origin_of(app: AppState, request: Request) -> str:
    """The URL of this server for carriers: `PUBLIC_URL`, or the URL that the request was sent to."""
    return app.settings.public_url or str(request.base_url).rstrip("/")


class CarrierRequest:
    """One request of a carrier, whose signature is verified before it is used."""

    def __init__(self, app: AppState, name: str, webhook: WebhookRequest, origin: str) -> None:
        """``origin`` is the URL of this server for carriers: ``https://host`` and the prefix, if any."""
        self.app = app
        self.name = name
        self.carrier = app.carriers[name]
        self.flow = app.flow_carriers.get(name)
        self.webhook = webhook
        self._origin = origin
        self.is_late = False
        """Whether the carrier was answered before the database was: nothing may be changed any more."""
        self.is_settled = False
        """Whether the same request, sent again, has no effect and is answered with `NO_CONTENT`."""

    def connect(self, call: CallRecord) -> WebhookReply:
        """Connect the call to our media socket with a new token; hang up if it has ended."""
        app = self.app
        if call.status == "ended":
            return self.carrier.hang_up_reply()
        # While the carrier opens its stream, what the call begins with is loaded into memory.
        app.background.start(
            app.call_registry.prepare(call), name=f"preparing call {call.id}", droppable=True
        )
        return self.carrier.answer(app.media_tokens.issue(call, app.clock.now()), self._urls(call.resumes))

    def announce(self, account_id: UUID, number_id: UUID) -> WebhookReply:
        """Connect the call to our media socket for what the number's callers hear before an agent answers."""
        token = self.app.media_tokens.issue_announcement(account_id, number_id, self.app.clock.now())
        return self.carrier.answer(token, self._urls(resumes=0))

    def number(self) -> NumberFallback:
        """What is known of our number without the database."""
        incoming = self.carrier.incoming_call(self.webhook)
        ours = incoming.from_ if incoming.direction == "outbound" else incoming.to
        return self.app.number_directory.get(self.name, ours)

    @property
    def webhooks_url(self) -> str:
        """The URL of the carrier's webhooks."""
        return self._origin + self.carrier.webhooks_path

    def _urls(self, resumes: int) -> AnswerUrls:
        return AnswerUrls(
            media_url=websocket_url(f"{self._origin}/media/{self.name}"),
            stream_status_url=f"{self.webhooks_url}/stream",
            resume_url=f"{self.webhooks_url}/resume?{RESUMES}={resumes}",
        )
