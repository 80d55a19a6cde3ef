"""What the delivery of callbacks is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator
from pydantic_settings import SettingsConfigDict

from eai_common.outbound import AllowedHosts
from eai_common.settings import AllowedNetworks, Duration, Group
from eai_formatter.callbacks.signing import secret_keys

__all__ = ["CallbackSettings"]


def _readable(secrets: SecretStr) -> SecretStr:
    secret_keys(secrets.get_secret_value())
    return secrets


Secrets = Annotated[
    SecretStr,
    AfterValidator(_readable),
    WithJsonSchema(
        {"type": "string", "takes": "secrets separated by commas, each whsec_ and the base64 of 24 to 64 random bytes"}
    ),
]


class CallbackSettings(Group):
    """Signed callbacks."""

    model_config = SettingsConfigDict(env_prefix="CALLBACK_")

    secrets: Secrets = Field(
        default=SecretStr(""),
        description="Secrets that callbacks are signed with, by the Standard Webhooks scheme. All of them sign: to "
        "rotate, put the new one in front, let the receivers change, take the old one away. Without one, callbacks go "
        "out unsigned in development and to the dead letters elsewhere.",
    )
    bearer_token: SecretStr = Field(
        default=SecretStr(""),
        description="Token sent as `Authorization: Bearer`, over TLS, to CALLBACK_BEARER_HOSTS only.",
    )
    bearer_hosts: AllowedHosts = Field(default=(), description="Hosts that may see CALLBACK_BEARER_TOKEN.")
    timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(), description="How long a receiver may take for its whole answer."
    )
    allow_http: bool = Field(default=False, description="Also accept callback URLs without TLS.")
    allowed_networks: AllowedNetworks = Field(
        default=(),
        description="Networks that callbacks may go to although they are not public, for a sandbox or a mirror.",
    )
    max_parallel: int = Field(
        default=100, ge=2, le=1000, description="Most callbacks under way in one process, whatever their hosts."
    )
    max_parallel_per_host: int = Field(
        default=10, ge=1, le=500, description="Most callbacks under way to one host from one process."
    )

    @model_validator(mode="after")
    def _leave_room_and_say_who_may_see_the_token(self) -> CallbackSettings:
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
