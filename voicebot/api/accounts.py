"""/account: the settings of the key's account."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from db import account_settings, audit
from db.account_settings import AccountSettings, SettingsDraft
from db.audit import Change
from templates.check.context import ProviderTable
from templates.check.providers import check_backups
from templates.defaults import AccountBackups, AccountTakeover
from templates.problem import Severity
from voicebot.api.access import Admin, Reader
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, CHANGE, NOT_MODIFIED, SCHEMA_REF, patch_schema, refuses
from voicebot.api.media_types import MERGE_PATCH
from voicebot.api.preconditions import IfMatch, IfNoneMatch, etag, unchanged
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.validation import invalid_body
from voicebot.authoring import merged
from voicebot.dispatch.costs import Prices
from voicebot.webhook_signature import new_signing_secret

router = resource_router("/account", "account")


Days = Annotated[int, Field(strict=True, ge=1, le=36500)]


class Retention(BaseModel):
    """How long data is kept, in days; null: without limit. Opt-outs are kept."""

    model_config = ConfigDict(extra="forbid")

    transcripts_days: Annotated[
        Days | None,
        Field(description="What was said and done on a call: utterances, model requests, data of events."),
    ] = None
    payloads_days: Annotated[
        Days | None, Field(description="Payload and variables of a lead, after it has ended.")
    ] = None


class AccountBody(BaseModel):
    """The settings of an account, as a client sends them."""

    model_config = ConfigDict(extra="forbid")

    prices: Annotated[
        Prices, Field(description="What its providers charge; from it the cost of calls is computed.")
    ] = Prices()
    retention: Annotated[Retention, Field(description="How long transcripts and payloads are kept.")] = (
        Retention()
    )
    backup: Annotated[
        AccountBackups,
        Field(description="Who takes over in calls whose template names no backup for that kind."),
    ] = AccountBackups()
    takeover: Annotated[
        AccountTakeover, Field(description="For takeovers in a browser whose template does not say.")
    ] = AccountTakeover()

    def draft(self) -> SettingsDraft:
        """The row to write."""
        return SettingsDraft(
            prices=self.prices.model_dump(mode="json"),
            backup=self.backup.model_dump(mode="json"),
            transcribes_takeovers=self.takeover.transcribe,
            **self.retention.model_dump(),
        )


class Account(AccountBody):
    """The settings of an account, as the API answers them."""

    id: UUID
    name: str
    revision: int


class WebhookSecret(BaseModel):
    """The key that signs the webhooks of the account's templates."""

    signing_secret: Annotated[str, Field(description="Of Standard Webhooks; shown only once.")]


Patch = Annotated[
    Any,
    Body(
        media_type=MERGE_PATCH,
        examples=[{"prices": {"stt": {"deepgram": {"per_minute": 0.0077}}}}],
    ),
    WithJsonSchema(patch_schema(AccountBody.model_json_schema(ref_template=SCHEMA_REF), "AccountPatch")),
]


@router.get("", response_model=Account, responses=NOT_MODIFIED | refuses())
async def get_account(
    app_state: AppStateDep, reader: Reader, if_none_match: IfNoneMatch, response: Response
) -> Account | Response:
    """The settings of the account."""
    found = await account_settings.get(app_state.database, reader.account_id)
    return unchanged(found.revision) if if_none_match.has(found.revision) else _answer(found, response)


@router.patch("", responses=refuses(*BODY, *CHANGE, "invalid_request"))
async def patch_account(
    app_state: AppStateDep, admin: Admin, if_match: IfMatch, patch: Patch, response: Response
) -> Account:
    """Change settings of the account (RFC 7396). Calls that have ended keep their cost."""
    before = await account_settings.get(app_state.database, admin.account_id)
    if_match.expect(before.revision)
    stored = _account(before).model_dump(mode="json", include=set(AccountBody.model_fields))
    body = _read(merged(stored, _writable_part(patch)))
    _check(body.backup, app_state.authoring.providers)
    async with app_state.database.transaction() as transaction:
        saved = await account_settings.update(
            transaction,
            admin.account_id,
            body.draft(),
            expected_revision=before.revision,
        )
        change = Change(
            key_id=admin.key_id, action="update", resource="account", resource_id=admin.account_id,
            revision_before=before.revision, revision_after=saved.revision,
        )  # fmt: skip
        await audit.record(transaction, admin.account_id, change)
    return _answer(saved, response)


@router.post("/webhook-secret", responses=refuses())
async def replace_webhook_secret(app_state: AppStateDep, admin: Admin) -> WebhookSecret:
    """Create a new signing key for the webhooks of templates and show it; the old key is no longer used."""
    secret = new_signing_secret()
    async with app_state.database.transaction() as transaction:
        await account_settings.replace_webhook_secret(
            transaction, admin.account_id, app_state.vault.seal(secret)
        )
        change = Change(
            key_id=admin.key_id, action="replace_webhook_secret", resource="account",
            resource_id=admin.account_id,
        )  # fmt: skip
        await audit.record(transaction, admin.account_id, change)
    return WebhookSecret(signing_secret=secret)


def _read(document: Any) -> AccountBody:
    try:
        return AccountBody.model_validate(document)
    except ValidationError as error:
        raise invalid_body(error.errors(include_url=False)) from None


def _check(backups: AccountBackups, providers: ProviderTable | None) -> None:
    """Refuse backups that no template could name."""
    faults = [each for each in check_backups(backups, providers) if each.severity is Severity.ERROR]
    if faults:
        errors = [FieldError(**fault.to_json()) for fault in faults]
        raise ApiProblem("invalid_request", "A backup cannot be used.", errors=errors)


def _writable_part(patch: Any) -> Any:
    """A patch without the read-only members, which a client may send back unchanged."""
    if not isinstance(patch, dict):
        raise ApiProblem("invalid_request", "A merge patch of an account must be an object.")
    read_only = Account.model_fields.keys() - AccountBody.model_fields.keys()
    return {name: value for name, value in patch.items() if name not in read_only}


def _answer(record: AccountSettings, response: Response) -> Account:
    response.headers["ETag"] = etag(record.revision)
    return _account(record)


def _account(record: AccountSettings) -> Account:
    kept = Retention(transcripts_days=record.transcripts_days, payloads_days=record.payloads_days)
    return Account(
        id=record.id, name=record.name, revision=record.revision,
        prices=Prices.model_validate(record.prices), retention=kept,
        backup=AccountBackups.model_validate(record.backup),
        takeover=AccountTakeover(transcribe=record.transcribes_takeovers),
    )  # fmt: skip
