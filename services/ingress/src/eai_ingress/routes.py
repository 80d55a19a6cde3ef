"""The webhook over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.broker import BrokerUnavailable
from eai_common.http import ErrorBody, HttpError, Role, json_response, require
from eai_ingress.acceptance import Acceptance
from eai_ingress.estimate import WaitEstimator
from eai_ingress.request import Rules, parse_webhook

__all__ = ["Webhook"]

_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Webhook:
    """POST /api/v1/message/webhook/user."""

    acceptance: Acceptance
    estimator: WaitEstimator
    rules: Rules
    answers_like_predecessor: bool

    def routes(self) -> list[Route]:
        return [Route("/api/v1/message/webhook/user", self.post_user_message, methods=["POST"])]

    async def post_user_message(self, request: Request) -> Response:
        """Accept one message. Answers 202, or 201 to the predecessor's clients."""
        require(request, Role.MESSAGE_SENDER)
        _require_json(request)
        message = parse_webhook(await request.body(), self.rules)
        try:
            accepted = await self.acceptance.accept(message)
        except BrokerUnavailable as error:
            raise _try_again_later() from error
        polling_endpoint = f"/api/v1/message/response?message_id={accepted.message_id}"
        body = {
            "message_id": accepted.message_id,
            "status": "processing" if self.answers_like_predecessor else "queued",
            "estimated_wait_time": await self.estimator.estimate(message.kind),
            "polling_endpoint": polling_endpoint,
        }
        return json_response(body, 201 if self.answers_like_predecessor else 202, {"Location": polling_endpoint})


def _require_json(request: Request) -> None:
    given = request.headers.get("content-type", "")
    media_type, _, _ = given.partition(";")
    if media_type.strip().lower() != "application/json":
        body = ErrorBody("Unsupported media type", f'Content-Type is "{given[:100]}", takes application/json')
        raise HttpError(415, body)


def _try_again_later() -> HttpError:
    body = ErrorBody("Service unavailable", "The message was not accepted; please send it again in a few seconds")
    return HttpError(503, body, headers={"Retry-After": str(_RETRY_AFTER_S)})
