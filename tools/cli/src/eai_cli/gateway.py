"""A client of the gateway, as an integrator would write one: post, then poll for the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

__all__ = ["Gateway", "GatewayError", "Reply"]

_POLL_EVERY_S = 0.1
_POLL_RARELY_S = 1.0
_ASK_AGAIN = (429, 503)  # temporary: the message stays accepted


class GatewayError(Exception):
    """The gateway cannot be reached or refused the request; the text holds its answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A final result. `body` is the JSON object as received."""

    body: Mapping[str, object]
    raw: str

    @property
    def is_completed(self) -> bool:
        return self.body.get("status") == "completed"

    @property
    def text(self) -> str:
        """What the user reads: the answer, or the error text."""
        return str(self.body.get("content") or self.body.get("error") or "")

    @property
    def transcript(self) -> str | None:
        found = self.body.get("transcript")
        return str(found) if found is not None else None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A client of one gateway."""

    base_url: str
    token: str = ""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def post(self, user: str, message: str, *, message_type: str | None = None, provider: str | None = None) -> str:
        """Send one message; gives its id. Raises GatewayError if it is not accepted."""
        body = {"user_number": user, "message": message, "message_type": message_type, "provider": provider}
        response = self._request(
            "POST", "/api/v1/message/webhook/user", {k: v for k, v in body.items() if v is not None}
        )
        message_id = _fields(response).get("message_id") if response.status_code in (201, 202) else None
        if message_id is None:
            raise GatewayError(_refusal(response))
        return str(message_id)

    def wait_for_reply(self, message_id: str, *, wait_s: float, on_stage: Callable[[str], None] | None = None) -> Reply:
        """Poll until the result is there; `on_stage` gets the message's stage at each poll.

        Raises GatewayError, also if there is no result after `wait_s` seconds.
        """
        path = f"/api/v1/message/response?message_id={message_id}"
        began = time.monotonic()
        while True:
            response = self._request("GET", path)
            fields = _fields(response)
            if response.status_code == 200 and fields:
                return Reply(fields, response.text)
            if response.status_code not in (202, *_ASK_AGAIN):
                raise GatewayError(_refusal(response))
            if on_stage is not None and "stage" in fields:
                on_stage(str(fields["stage"]))
            waited_s = time.monotonic() - began
            if waited_s > wait_s:
                raise GatewayError(f"no answer after {wait_s:g} s; ask again with message id {message_id}")
            time.sleep(_POLL_EVERY_S if waited_s < 5 else _POLL_RARELY_S)

    def _request(self, method: str, path: str, body: Mapping[str, str] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            return self.client.request(method, f"{self.base_url.rstrip('/')}{path}", json=body, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise GatewayError(f"no gateway at {self.base_url} ({error}); start one with ./eai up") from error


def _fields(response: httpx.Response) -> Mapping[str, object]:
    """The response's JSON object; empty if it has none."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(response: httpx.Response) -> str:
    fields = _fields(response)
    if "error" in fields and "message" in fields:
        return f"{response.status_code} {fields['error']}: {fields['message']}"
    return f"{response.status_code} {response.reason_phrase}"
