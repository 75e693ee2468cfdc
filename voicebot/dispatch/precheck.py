"""The pre-check of a lead: an HTTP server of the author says whether the person is to be called now."""

from __future__ import annotations

import json
from typing import Any

from loguru import logger

from db import account_settings
from db.dispatch import ClaimedLead
from db.ids import new_id
from db.pool import Database
from handlers.http import HttpClient, HttpFailure, HttpResponse
from templates.outbound import Precheck
from voicebot.clock import Clock
from voicebot.vault import SecretUnreadable, Vault
from voicebot.webhook_signature import new_signing_secret, signature_headers


class Prechecks:
    """Asks the servers of the authors, over the checked connections of HTTP functions."""

    def __init__(self, database: Database, clock: Clock, vault: Vault, client: HttpClient) -> None:
        """Sign requests with the accounts' keys, which ``vault`` decrypts."""
        self._db = database
        self._clock = clock
        self._vault = vault
        self._client = client

    async def allows(self, precheck: Precheck, lead: ClaimedLead) -> bool:
        """Whether the lead is to be dialled: what the server says, or the author where it fails.

        Raises:
            DatabaseError: the account's key cannot be read.
        """
        answer = await self._ask(precheck, lead)
        verdict = None if answer is None else verdict_of(answer)
        if verdict is None:
            logger.warning("lead {}: the pre-check failed; {}", lead.id, precheck.on_failure)
            return precheck.on_failure == "proceed"
        return verdict

    async def _ask(self, precheck: Precheck, lead: ClaimedLead) -> HttpResponse | None:
        body = json.dumps(
            {
                "lead_id": str(lead.id), "phone": lead.phone, "number_id": str(lead.number_id),
                "template_id": str(lead.template_id), "attempts": lead.attempts, "payload": lead.payload,
            },
            ensure_ascii=False,
        )  # fmt: skip
        sealed = await account_settings.webhook_secret(
            self._db, lead.account_id, self._vault.seal(new_signing_secret())
        )
        message_id = str(new_id())
        try:
            signature = signature_headers(self._vault.open(sealed), message_id, self._clock.now(), body)
            headers = {"webhook-id": message_id, **signature}
            return await self._client.post(precheck.url, body.encode(), headers, precheck.timeout_ms)
        except (HttpFailure, SecretUnreadable):
            return None


def verdict_of(answer: HttpResponse) -> bool | None:
    """The decision in a response; None: the server failed.

    2xx lets the lead be dialled, unless it is a JSON object with `proceed` false. 4xx does not, except 408
    and 429, which are failures like every other status, and like an answer that is too long to be read.
    """
    if 200 <= answer.status < 300:
        return _proceeds(answer.body) if answer.complete else None
    if 400 <= answer.status < 500 and answer.status not in (408, 429):
        return False
    return None


def _proceeds(body: bytes) -> bool:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(document, dict) and document.get("proceed") is False)
