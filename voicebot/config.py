"""Settings: the only reader of the environment.

The variables are those of the README; a ``.env`` file in the working directory is read too.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class Settings(BaseSettings):
    """Everything the environment decides.

    Vendor URLs are ``http(s)://host:port`` (websocket URLs are derived from them); unset means the
    vendor's own address. ``PUBLIC_URL`` is the origin under which the carrier reaches this server.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    database_url: str | None = Field(None, alias="DATABASE_URL")
    data_dir: Path = Field(Path(".voicebot"), alias="VOICEBOT_DATA_DIR")
    host: str = Field("127.0.0.1", alias="VOICEBOT_HOST")
    port: int = Field(8000, alias="VOICEBOT_PORT", ge=0, le=65535)
    secret_key: SecretStr | None = Field(None, alias="VOICEBOT_SECRET_KEY")
    api_key: SecretStr | None = Field(None, alias="VOICEBOT_API_KEY")
    """Opens an account of another server, for the commands that take its address."""
    http_allow: Annotated[frozenset[str], NoDecode] = Field(frozenset(), alias="VOICEBOT_HTTP_ALLOW")
    public_url: Url | None = Field(None, alias="PUBLIC_URL")
    drain_timeout_ms: int = Field(25_000, alias="VOICEBOT_DRAIN_TIMEOUT_MS", ge=0)
    log_level: str = Field("INFO", alias="LOG_LEVEL")
    otlp_endpoint: Url | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")

    twilio_account_sid: str | None = Field(None, alias="TWILIO_ACCOUNT_SID")
    twilio_auth_token: SecretStr | None = Field(None, alias="TWILIO_AUTH_TOKEN")
    twilio_api_url: Url | None = Field(None, alias="TWILIO_API_URL")

    deepgram_api_key: SecretStr | None = Field(None, alias="DEEPGRAM_API_KEY")
    deepgram_url: Url | None = Field(None, alias="DEEPGRAM_URL")

    elevenlabs_api_key: SecretStr | None = Field(None, alias="ELEVENLABS_API_KEY")
    elevenlabs_url: Url | None = Field(None, alias="ELEVENLABS_URL")

    smtp_url: Annotated[str | None, Field(pattern=r"^smtps?://[^/\s]+")] = Field(
        None, alias="VOICEBOT_SMTP_URL", repr=False
    )
    mail_from: str = Field("voicebot <voicebot@localhost>", alias="VOICEBOT_MAIL_FROM")

    openai_api_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY")
    openai_base_url: Url | None = Field(None, alias="OPENAI_BASE_URL")
    openai_model: str = Field("gpt-4.1-mini", alias="OPENAI_MODEL")

    @field_validator("public_url", "deepgram_url", "elevenlabs_url", "twilio_api_url", "openai_base_url")
    @classmethod
    def _without_trailing_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @field_validator("http_allow", mode="before")
    @classmethod
    def _host_and_port_list(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def postgres_dir(self) -> Path:
        """Where the embedded server keeps its data."""
        return self.data_dir.absolute() / "postgres"

    def fernet_key(self) -> bytes:
        """The key (urlsafe base64, 32 bytes) under which secrets are encrypted at rest.

        Derived from ``VOICEBOT_SECRET_KEY``; on a laptop without one, from a key made once and kept in the
        data directory (mode 0600).
        """
        if self.secret_key is not None:
            digest = hashlib.sha256(self.secret_key.get_secret_value().encode()).digest()
            return base64.urlsafe_b64encode(digest)
        path = self.data_dir / "secret.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(Fernet.generate_key())
        return path.read_bytes()


def websocket_url(url: str) -> str:
    """The websocket form of an ``http(s)://`` URL: ``https`` becomes ``wss``, ``http`` becomes ``ws``."""
    parts = urlsplit(url)
    return parts._replace(scheme="wss" if parts.scheme == "https" else "ws").geturl()
