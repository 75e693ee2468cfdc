"""OpenAI (`llm.provider: openai`), and endpoints that speak its protocol, named by the operator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

# The client loads this module at its first use, which would be while the first caller waits.
import openai.resources.chat.completions.completions  # noqa: F401
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMInvocationParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.utils.http import connection_limits
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from handlers.http.client import public_tls
from templates.model import TemplateContent
from voicebot.config import Settings, Url, Variables
from voicebot.providers.llm_failover import LlmEndpoint, LlmRequests, LlmWatch
from voicebot.providers.provider import Credential, LlmProvider, secret_of
from voicebot.providers.settings import OpenAILlmSettings

SILENCE_TIMEOUT_S = 5.0
"""A model that sends nothing for so long has failed: the caller must not wait for it in silence."""

BACKED_UP_TIMEOUT_S = 1.5
"""The same where a backup can be asked instead; the request is not repeated then."""


class OpenAIVariables(Variables):
    """The key of OpenAI, its URL where it is not the vendor's own, and the model of templates without one."""

    api_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY")
    base_url: Url | None = Field(None, alias="OPENAI_BASE_URL")
    model: str = Field("gpt-4.1-mini", alias="OPENAI_MODEL", min_length=1)


class NamedEndpoint(BaseModel):
    """A server that speaks OpenAI's protocol.

    Attributes:
        base_url: its URL, with ``/v1`` where it has that.
        model: the model of templates that name none.
        api_key_env: the variable that holds its key; None: it needs none.
        developer_role: whether it knows the message role ``developer``; otherwise ``user`` is sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: Url
    model: str = Field(min_length=1)
    api_key_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    developer_role: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, endpoint: object) -> object:
        if isinstance(endpoint, dict) and "api_key" in endpoint:
            raise ValueError("name the variable that holds the key as 'api_key_env' instead of the key")
        return endpoint


class EndpointVariables(Variables):
    """Endpoints by the name that templates write as ``llm.provider``: a JSON object."""

    endpoints: Annotated[
        dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,31}$")], NamedEndpoint], NoDecode
    ] = Field(default_factory=dict, alias="VOICEBOT_LLM_ENDPOINTS")

    @field_validator("endpoints", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None

    @field_validator("endpoints")
    @classmethod
    def _other_names(cls, endpoints: dict[str, NamedEndpoint]) -> dict[str, NamedEndpoint]:
        if "openai" in endpoints:
            raise ValueError("'openai' is taken; set OPENAI_BASE_URL, or choose another name")
        return endpoints


class _ChatCompletions(LlmProvider):
    """A server of OpenAI's protocol, with connections that all calls share."""

    settings = OpenAILlmSettings
    default_model: str
    client: AsyncOpenAI
    _credential: Credential

    @property
    def credential(self) -> Credential:
        """The server's key."""
        return self._credential

    def _connect(self, api_key: SecretStr | None, base_url: str | None, *, developer_role: bool) -> None:
        self._developer_role = developer_role
        self.client = AsyncOpenAI(
            api_key=secret_of(api_key),
            base_url=base_url,
            timeout=SILENCE_TIMEOUT_S,
            max_retries=1,
            http_client=DefaultAsyncHttpxClient(
                verify=public_tls(), limits=connection_limits(max_connections=1000, keepalive_expiry=None)
            ),
        )

    def options(self, content: TemplateContent) -> dict[str, Any]:
        """The author's settings and the model."""
        return {**self.accepted(content.llm.settings), "model": content.llm.model or self.default_model}

    def endpoint(self, options: Mapping[str, Any]) -> LlmEndpoint:
        """The model of these options."""
        return LlmEndpoint(
            provider=self.name, client=self.client, options=options, developer_role=self._developer_role
        )


class OpenAILlm(_ChatCompletions):
    """OpenAI, or another server of its protocol at ``OPENAI_BASE_URL``."""

    name = "openai"
    variables = OpenAIVariables

    def __init__(self, settings: Settings) -> None:
        variables = settings.read(OpenAIVariables)
        self.default_model = variables.model
        self.has_key = variables.api_key is not None
        self._missing = () if variables.api_key or variables.base_url else ("OPENAI_API_KEY",)
        self._credential = Credential.of("OPENAI_API_KEY", variables.api_key)
        self._connect(variables.api_key, variables.base_url, developer_role=True)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set; a server of one's own may need no key."""
        return self._missing


class EndpointLlm(_ChatCompletions):
    """An endpoint of ``VOICEBOT_LLM_ENDPOINTS``."""

    variables = EndpointVariables

    def __init__(self, settings: Settings, name: str, endpoint: NamedEndpoint) -> None:
        self.name = name
        self.default_model = endpoint.model
        key = settings.secret(endpoint.api_key_env) if endpoint.api_key_env else None
        self._missing = (endpoint.api_key_env,) if endpoint.api_key_env and key is None else ()
        self._credential = Credential.of(endpoint.api_key_env or "", key)
        self._connect(key, endpoint.base_url, developer_role=endpoint.developer_role)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set."""
        return self._missing


def endpoints(settings: Settings) -> dict[str, EndpointLlm]:
    """The endpoints that the operator named.

    Raises:
        pydantic.ValidationError: ``VOICEBOT_LLM_ENDPOINTS`` is malformed.
    """
    named = settings.read(EndpointVariables).endpoints
    return {name: EndpointLlm(settings, name, endpoint) for name, endpoint in named.items()}


def llm_service(endpoints: Sequence[LlmEndpoint], watch: LlmWatch | None = None) -> OpenAILLMService:
    """pipecat's service for a model and its backups, on connections that all calls share.

    With connections of its own, each agent of each call would spend 20 ms of the event loop on TLS set-up,
    and its first answer would wait for a handshake with the vendor.
    """
    requests = LlmRequests(
        endpoints,
        watch,
        backed_up_timeout_s=BACKED_UP_TIMEOUT_S,
        last_timeout_s=SILENCE_TIMEOUT_S,
    )
    service = _PooledLLMService(
        requests, settings=OpenAILLMService.Settings.from_mapping(endpoints[0].options)
    )
    service.supports_developer_role = all(endpoint.developer_role for endpoint in endpoints)
    return service


class _PooledLLMService(OpenAILLMService):
    def __init__(self, requests: LlmRequests, **kwargs: Any) -> None:
        self._requests = requests
        super().__init__(**kwargs)

    def create_client(self, *_: Any, **__: Any) -> AsyncOpenAI:
        return cast(AsyncOpenAI, self._requests)

    def build_chat_completion_params(self, params_from_context: OpenAILLMInvocationParams) -> dict[str, Any]:
        """The parameters of a request, with messages and tools in ``extra_body``.

        The client copies all other parameters by the type hints of their members, which takes tens of ms of
        the event loop for a conversation. ``extra_body`` is merged into the request as it is.
        """
        params = super().build_chat_completion_params(params_from_context)
        as_it_is = {name: params[name] for name in ("messages", "tools") if isinstance(params[name], list)}
        return {**params, **{name: [] for name in as_it_is}, "extra_body": as_it_is}
