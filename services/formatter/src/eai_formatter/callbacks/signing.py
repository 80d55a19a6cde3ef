"""Proves where a callback is from: the Standard Webhooks headers, and a bearer token for the hosts that may see it."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from standardwebhooks import Webhook

from eai_common.outbound import HostRule, Target

__all__ = ["Bearer", "Signer", "parse_secrets"]

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # Standard Webhooks, "Signature scheme": 192 to 512 bits


def parse_secrets(secrets: str) -> tuple[bytes, ...]:
    """Return the keys of a comma-separated list of `whsec_` secrets. Raises ValueError, which does not show them."""
    return tuple(_parse_secret(secret.strip()) for secret in secrets.split(",") if secret.strip())


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with every key, so that a receiver may have the new one or still the old one."""

    keys: Sequence[bytes]

    @property
    def can_sign(self) -> bool:
        return bool(self.keys)

    def headers(self, message_id: str, body: bytes, *, at: datetime) -> Mapping[str, str]:
        """Return the headers of one attempt: the id is the same for all attempts, the time is the attempt's own."""
        headers = {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp()))}
        if not self.keys:
            return headers
        text = body.decode()
        signatures = [Webhook(key).sign(message_id, at, text) for key in self.keys]
        return {**headers, "webhook-signature": " ".join(signatures)}


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that only listed hosts see, and only over TLS: a caller could choose http for a listed host."""

    token: str = ""
    hosts: tuple[HostRule, ...] = ()

    def headers(self, target: Target) -> Mapping[str, str]:
        may_see_it = target.scheme == "https" and any(rule.matches(target.host) for rule in self.hosts)
        return {"Authorization": f"Bearer {self.token}"} if self.token and may_see_it else {}


def _parse_secret(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError("a secret does not begin with whsec_")
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret is not base64") from None
    if len(key) not in _KEY_BYTES:
        raise ValueError("a secret is shorter than 24 bytes or longer than 64")
    return key
