"""The settings of callbacks."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator
from pydantic_settings import SettingsConfigDict

from eai_common.outbound import AllowedHosts
from eai_common.settings import AllowedNetworks, Duration, Group
from eai_formatter.callbacks.signing import parse_secrets

__all__ = ["CallbackSettings"]


def _require_readable(secrets: SecretStr) -> SecretStr:
    parse_secrets(secrets.get_secret_value())
    return secrets


Secrets = Annotated[
    SecretStr,
    AfterValidator(_require_readable),
    WithJsonSchema(
        {"type": "string", "takes": "secrets separated by commas, each whsec_ and the base64 of 24 to 64 random bytes"}
    ),
]


class CallbackSettings(Group):
    """Signed callbacks."""

    model_config = SettingsConfigDict(env_prefix="CALLBACK_")

    secrets: Secrets = Field(
        default=SecretStr(""),
        description="Secrets that sign callbacks, by the Standard Webhooks scheme. Each of them signs. To rotate: "
        "add the new one in front, let the receivers change, remove the old one. Without a secret, "
        "callbacks are unsigned in development and dead-lettered elsewhere.",
    )
    bearer_token: SecretStr = Field(
        default=SecretStr(""),
        description="Token sent as `Authorization: Bearer`, only over TLS and only to CALLBACK_BEARER_HOSTS.",
    )
    bearer_hosts: AllowedHosts = Field(default=(), description="Hosts that CALLBACK_BEARER_TOKEN is sent to.")
    timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(), description="Timeout of the complete answer of a receiver."
    )
    allow_http: bool = Field(default=False, description="Also accept callback URLs without TLS.")
    allowed_networks: AllowedNetworks = Field(
        default=(),
        description="Private networks that callbacks may go to, on any port.",
    )
    max_parallel: int = Field(
        default=100, ge=2, le=1000, description="Most callbacks at a time in one process, to all hosts."
    )
    max_parallel_per_host: int = Field(
        default=10, ge=1, le=500, description="Most callbacks at a time from one process to one host."
    )

    @model_validator(mode="after")
    def _check_limits_and_token(self) -> CallbackSettings:
        if self.max_parallel_per_host > self.max_parallel // 2:
            raise ValueError(
                f'CALLBACK_MAX_PARALLEL_PER_HOST: got "{self.max_parallel_per_host}", takes at most half of '
                f"CALLBACK_MAX_PARALLEL ({self.max_parallel}), so that one slow host leaves room for the others"
            )
        if self.bearer_token.get_secret_value() and not self.bearer_hosts:
            raise ValueError(
                "CALLBACK_BEARER_HOSTS: is required with CALLBACK_BEARER_TOKEN, takes hosts, or domains with a leading "
                "dot, separated by commas"
            )
        return self
