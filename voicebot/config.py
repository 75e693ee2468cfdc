"""Settings: the only reader of the environment.

The variables are those of the README; a ``.env`` file in the working directory is read too.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, create_model, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _without_trailing_slash(url: str) -> str:
    return url.rstrip("/")


Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+"), AfterValidator(_without_trailing_slash)]
"""``http(s)://host:port`` with an optional path; a trailing slash is removed."""


SECRET_KEY_CHARACTERS = 32
"""Minimum length of a key in ``VOICEBOT_SECRET_KEY``."""

PRIVATE_DIRECTORY = 0o700
"""Mode of the data directory."""

PRIVATE_FILE = 0o600
"""Mode of the file with the secret key."""


class Variables(BaseSettings):
    """Environment variables that are read together, each named by its field's alias.

    A variable that is not in the environment is looked up in the ``.env`` file. An empty variable counts as
    unset.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)


VariablesT = TypeVar("VariablesT", bound=Variables)


class Settings(Variables):
    """All settings of the environment, except for those of providers and carriers (``read``).

    ``PUBLIC_URL`` is the origin under which the carrier reaches this server.
    """

    model_config = SettingsConfigDict(populate_by_name=True)

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        """Read the environment; ``values`` (by variable name) take precedence over it."""
        super().__init__(**values)
        self._given = values

    database_url: str | None = Field(None, alias="DATABASE_URL")
    data_dir: Path = Field(Path(".voicebot"), alias="VOICEBOT_DATA_DIR")
    host: str = Field("127.0.0.1", alias="VOICEBOT_HOST")
    port: int = Field(8000, alias="VOICEBOT_PORT", ge=0, le=65535)
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(1, alias="VOICEBOT_WORKERS")
    """How many processes take calls on the port; ``auto``: one for each core."""
    secret_key: SecretStr | None = Field(None, alias="VOICEBOT_SECRET_KEY")
    """One key, or several separated by commas: the newest first, then those that encrypted old secrets."""
    api_key: SecretStr | None = Field(None, alias="VOICEBOT_API_KEY")
    """A key of an account on another server, for the commands that take a URL."""
    dispatch: Literal["on", "off"] = Field("on", alias="VOICEBOT_DISPATCH")
    """Whether this process dials leads."""
    numbers: Literal["open", "assigned"] = Field("open", alias="VOICEBOT_NUMBERS")
    """Who can register a number. ``open``: the first account; ``assigned``: only the account that it was
    assigned to (``voicebot numbers assign``)."""
    http_allow: Annotated[frozenset[str], NoDecode] = Field(frozenset(), alias="VOICEBOT_HTTP_ALLOW")
    public_url: Url | None = Field(None, alias="PUBLIC_URL")
    server_url: Url | None = Field(None, alias="VOICEBOT_SERVER_URL")
    """The address at which other servers with the same database reach this one, so that an operator's audio
    can be relayed to the server that has the call."""
    metrics_token: SecretStr | None = Field(None, alias="VOICEBOT_METRICS_TOKEN")
    """The bearer token of ``/metrics``. Without one, only clients on this machine may read it."""
    max_connections: int = Field(1000, alias="VOICEBOT_MAX_CONNECTIONS", ge=10)
    max_connections_per_address: int = Field(256, alias="VOICEBOT_MAX_CONNECTIONS_PER_ADDRESS", ge=1)
    max_calls: int | None = Field(None, alias="VOICEBOT_MAX_CALLS", ge=1)
    """How many calls a process may have; further calls get their number's fallback."""
    max_lag_ms: int = Field(20, alias="VOICEBOT_MAX_LAG_MS", ge=0)
    """The smoothed lag of the event loop above which new calls get their number's fallback; 0: no limit."""
    drain_timeout_ms: int = Field(25_000, alias="VOICEBOT_DRAIN_TIMEOUT_MS", ge=0)
    log_level: str = Field("INFO", alias="LOG_LEVEL")

    smtp_url: Annotated[str | None, Field(pattern=r"^smtps?://[^/\s]+")] = Field(
        None, alias="VOICEBOT_SMTP_URL", repr=False
    )
    mail_from: str = Field("voicebot <voicebot@localhost>", alias="VOICEBOT_MAIL_FROM")

    @field_validator("secret_key")
    @classmethod
    def _long_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(len(key) < SECRET_KEY_CHARACTERS for key in _keys_in(value)):
            raise ValueError(
                f"each key must have at least {SECRET_KEY_CHARACTERS} characters; make one with "
                "`openssl rand -base64 32`, and separate the new key and the old one by a comma"
            )
        return value

    @field_validator("http_allow", mode="before")
    @classmethod
    def _host_and_port_list(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    def read(self, variables: type[VariablesT]) -> VariablesT:
        """Other variables, from the same sources as these.

        Raises:
            pydantic.ValidationError: a variable is malformed.
        """
        return variables(**self._given)

    def secret(self, name: str) -> SecretStr | None:
        """The value of one variable whose name is only known at run time; None: it is unset."""
        fields: Any = {"value": (SecretStr | None, Field(None, alias=name))}
        read = self.read(create_model("OneVariable", __base__=Variables, **fields))
        found: SecretStr | None = read.model_dump()["value"]
        return found

    def replace(self, values: Mapping[str, str]) -> Self:
        """The same settings, with other values for some variables."""
        return type(self)(**{**self._given, **values})

    @property
    def postgres_dir(self) -> Path:
        """The data directory of the embedded server."""
        return self.data_dir.absolute() / "postgres"

    def fernet_keys(self, *, create: bool = True) -> Sequence[bytes]:
        """The keys (URL-safe base64 of 32 bytes) of secrets at rest; the first one encrypts, all decrypt.

        Each is derived from one key of ``VOICEBOT_SECRET_KEY``. Without it, a key is generated once and
        stored in the data directory (mode 0600); if not ``create``, there may be none.
        """
        if self.secret_key is not None:
            digests = [hashlib.sha256(key.encode()).digest() for key in _keys_in(self.secret_key)]
            return [base64.urlsafe_b64encode(digest) for digest in digests]
        path = self.data_dir / "secret.key"
        if not path.exists():
            if not create:
                return []
            self.data_dir.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            with open(path, "xb", opener=_private) as file:
                file.write(Fernet.generate_key())
        return [path.read_bytes()]


def fingerprint(*secrets: SecretStr | None) -> str:
    """Hexadecimal digits that tell secrets apart without showing them; empty if there are none."""
    values = [secret.get_secret_value() for secret in secrets if secret]
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:12] if values else ""


def _keys_in(secret: SecretStr) -> list[str]:
    return [key.strip() for key in secret.get_secret_value().split(",")]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def websocket_url(url: str) -> str:
    """The websocket form of an ``http(s)://`` URL: ``https`` becomes ``wss``, ``http`` becomes ``ws``."""
    parts = urlsplit(url)
    return parts._replace(scheme="wss" if parts.scheme == "https" else "ws").geturl()
