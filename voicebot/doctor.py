"""The command `voicebot doctor`: checks the carriers and says how to correct what is wrong.

For each carrier: whether its variables are set, this server can be reached at `PUBLIC_URL`, the carrier
accepts the credentials, and each number exists and has its webhook configured. It changes nothing and prints
no secrets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from db import number_fallbacks
from db.errors import DatabaseError
from db.number_fallbacks import NumberFallback
from telephony.carrier import Carrier
from telephony.checks import NumberCarrier
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier
from telephony.kind import CarrierKind
from voicebot import startup
from voicebot.carriers import CARRIERS, carriers_of, unset
from voicebot.config import Settings
from voicebot.database import NoDatabase, open_database

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a check.

    Attributes:
        carrier: the carrier; None: the check is about the server.
        check: `settings`, `url`, `credentials`, `dialled_calls`, `number` or `webhook`.
        ok: whether nothing has to be done.
        message: what was found.
        remedy: what to do; empty if nothing.
    """

    carrier: str | None
    check: str
    ok: bool
    message: str
    remedy: str = ""


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check the carriers: variables, URL, credentials, numbers and webhooks, each with its remedy.

    Exit status: 1 if something has to be done.
    """
    settings = startup.settings()
    findings = asyncio.run(_all(settings))
    if as_json:
        print(json.dumps({"ok": all(each.ok for each in findings), "findings": list(map(asdict, findings))}))
    else:
        for each in findings:
            print(f"{'ok  ' if each.ok else 'FAIL'} {each.carrier or 'server'} {each.check}: {each.message}")
            if each.remedy:
                print(f"     {each.remedy}")
    if not all(each.ok for each in findings):
        raise typer.Exit(1)


async def _all(settings: Settings) -> list[Finding]:
    return [finding async for finding in examine(settings)]


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Make all checks; those that cannot succeed because of an earlier one are left out."""
    carriers = carriers_of(settings)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            server = [await _url(settings, client)]
            yield server[0]
            if not carriers:
                yield _no_carrier()
            found, problem = await _numbers(settings)
            if problem is not None:
                yield problem
            for name, kind in CARRIERS.items():
                yield _settings(settings, kind, is_used=name in carriers)
                if name not in carriers:
                    continue
                is_known = await _credentials(carriers[name])
                yield is_known
                if kind.to_transfer_dialled:
                    yield _leading_on(settings, kind)
                of_carrier = [number for number in found if number.carrier == name]
                if not of_carrier:
                    yield _no_numbers(name)
                for number in of_carrier:
                    yield await _webhook(settings, client, carriers[name], number, server[0], is_known)
    finally:
        for carrier in carriers.values():
            await carrier.aclose()


async def _url(settings: Settings, client: httpx.AsyncClient) -> Finding:
    url = settings.public_url
    remedy = "Set PUBLIC_URL to the https address at which carriers reach this server, and start it."
    if url is None:
        return Finding(carrier=None, check="url", ok=False, message="PUBLIC_URL is not set.", remedy=remedy)
    try:
        answer = await client.get(f"{url}/healthz")
        problem = None if answer.status_code == httpx.codes.OK else f"answers {answer.status_code}"
    except httpx.HTTPError as error:
        problem = f"cannot be reached ({type(error).__name__})"
    if problem is not None:
        return Finding(
            carrier=None, check="url", ok=False, message=f"{url}/healthz {problem}.", remedy=remedy
        )
    is_local = (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1")
    if urlsplit(url).scheme != "https" and not is_local:
        message = f"{url} is reached, but media would not be encrypted."
        return Finding(carrier=None, check="url", ok=False, message=message, remedy="Use https.")
    return Finding(carrier=None, check="url", ok=True, message=f"{url} reaches a server.")


async def _numbers(settings: Settings) -> tuple[Sequence[NumberFallback], Finding | None]:
    """The active numbers of all accounts."""
    try:
        async with open_database(settings) as database:
            return await number_fallbacks.fallbacks(database), None
    except (DatabaseError, NoDatabase) as error:
        remedy = "Check DATABASE_URL, or run the command where the server's VOICEBOT_DATA_DIR is."
        message = f"The numbers cannot be read: {error}"
        return [], Finding(carrier=None, check="number", ok=False, message=message, remedy=remedy)


def _settings(settings: Settings, kind: CarrierKind, *, is_used: bool) -> Finding:
    carrier, needed = kind.name, (*kind.to_take_calls, *kind.to_place_calls)
    missing = unset(settings, needed)
    if not missing:
        return Finding(carrier=carrier, check="settings", ok=True, message="All variables are set.")
    if len(missing) == len(needed):
        return Finding(carrier=carrier, check="settings", ok=True, message="Not used: no variable is set.")
    consequence = "it places no calls" if is_used else "it takes no calls"
    message = f"Not set: {', '.join(missing)}; {consequence}."
    return Finding(
        carrier=carrier, check="settings", ok=False, message=message, remedy="Set them (.env.example)."
    )


async def _credentials(carrier: Carrier) -> Finding:
    name = carrier.name
    try:
        await carrier.check_account()
    except CarrierError as error:
        names = " and ".join(CARRIERS[name].credentials)
        remedy = f"Compare {names} with the carrier's console, and {name.upper()}_API_URL with its region."
        if error.status == 0:
            remedy = f"Check the network and {name.upper()}_API_URL, and that the variables are set."
        return Finding(carrier=name, check="credentials", ok=False, message=str(error), remedy=remedy)
    return Finding(carrier=name, check="credentials", ok=True, message="The carrier accepts them.")


def _leading_on(settings: Settings, kind: CarrierKind) -> Finding:
    """Whether calls that the carrier places can be transferred; it is not a fault if they cannot."""
    names = " and ".join(kind.to_transfer_dialled)
    if not unset(settings, kind.to_transfer_dialled):
        message = f"{names} is set: leads are dialled into the flow, so that their calls are like others."
    elif unset(settings, kind.to_place_calls):
        message = "It places no calls."
    else:
        message = (
            f"{names} is not set: the calls of leads cannot be transferred, connected with an operator's "
            f"telephone, or resumed. If they are to be, set it (docs/guides/{kind.name}.md, Dialling)."
        )
    return Finding(carrier=kind.name, check="dialled_calls", ok=True, message=message)


def _no_carrier() -> Finding:
    return Finding(
        carrier=None,
        check="settings",
        ok=False,
        message="No carrier is configured, so no call can arrive.",
        remedy=f"Set {' or '.join(' and '.join(kind.to_take_calls) for kind in CARRIERS.values())}.",
    )


def _no_numbers(carrier: str) -> Finding:
    return Finding(
        carrier=carrier,
        check="number",
        ok=False,
        message="No active number of this carrier is registered.",
        remedy="Register one with POST /api/v1/numbers, and give it an active orchestrator.",
    )


async def _webhook(
    settings: Settings,
    client: httpx.AsyncClient,
    carrier: Carrier,
    number: NumberFallback,
    server: Finding,
    credentials: Finding,
) -> Finding:
    """Whether calls of a number reach this server: by the carrier's configuration, or by a test request."""
    voice_url = f"{settings.public_url}{carrier.webhooks_path}/voice"
    if isinstance(carrier, NumberCarrier) and credentials.ok:
        return await _configured(carrier, number.e164, voice_url)
    if isinstance(carrier, FlowCarrier) and server.ok:
        return await _flow(client, carrier, number.e164, settings.public_url or "")
    message = f"{number.e164} was not checked, because of the above."
    return Finding(
        carrier=carrier.name, check="number", ok=False, message=message, remedy="Remedy that first."
    )


async def _configured(carrier: NumberCarrier, e164: str, voice_url: str) -> Finding:
    try:
        configured = await carrier.voice_url_of(e164)
    except CarrierError as error:
        return Finding(
            carrier=carrier.name, check="number", ok=False, message=str(error), remedy="Try again later."
        )
    if configured is None:
        message = f"The account has no number {e164}."
        remedy = "Buy or port it there, or correct the number that is registered here."
        return Finding(carrier=carrier.name, check="number", ok=False, message=message, remedy=remedy)
    if configured != voice_url:
        message = f"Calls of {e164} go to {configured or 'no webhook'}."
        remedy = f"Set the number's voice webhook to {voice_url} (POST)."
        return Finding(carrier=carrier.name, check="webhook", ok=False, message=message, remedy=remedy)
    return Finding(carrier=carrier.name, check="webhook", ok=True, message=f"Calls of {e164} come here.")


async def _flow(client: httpx.AsyncClient, carrier: FlowCarrier, e164: str, origin: str) -> Finding:
    """Send the flow's request for a call that does not exist; the flow itself cannot be read."""
    shown = f"{origin}/webhooks/{carrier.name}/…"
    try:
        answer = await client.get(
            f"{origin}{carrier.webhooks_path}/again", params={"CallSid": "doctor", "To": e164}
        )
        status: object = answer.status_code
    except httpx.HTTPError as error:
        status = type(error).__name__
    if status == httpx.codes.FOUND:
        message = f"{shown} answers for {e164}; the flow cannot be read (docs/guides/{carrier.name}.md)."
        return Finding(carrier=carrier.name, check="webhook", ok=True, message=message)
    message = f"{shown}/again answers {status} for {e164}."
    names = " and ".join(CARRIERS[carrier.name].to_take_calls)
    remedy = f"The server at PUBLIC_URL must have the same {names}; restart it after a change."
    return Finding(carrier=carrier.name, check="webhook", ok=False, message=message, remedy=remedy)
