"""A message with a callback URL: its end is posted there, signed, whichever way the gateway runs."""

from __future__ import annotations

import asyncio

import pytest
from e2e.deployment import Deployment

from eai_common.testing import wait_until
from eai_formatter.callbacks.testing import Receiver


@pytest.mark.parametrize(
    ("message", "message_type", "status"),
    [("Quando vence o IPTU?", "text", "completed"), ("http://10.0.0.1/voz.ogg", "audio", "failed")],
    ids=["completed", "failed"],
)
async def test_the_end_of_a_message_is_posted_to_its_callback_url_and_signed(
    deployment: Deployment, user: str, message: str, message_type: str, status: str
) -> None:
    async with Receiver(host=deployment.host) as receiver:
        message_id = await asyncio.to_thread(
            deployment.client.send, user, message, message_type=message_type, callback_url=receiver.url
        )
        await asyncio.to_thread(wait_until, lambda: bool(receiver.received), within_s=30, what="it was called back")
        payload = receiver.received[0].verified(deployment.callback_secret)
        assert (payload["message_id"], payload["status"], receiver.ids[0]) == (message_id, status, message_id)


def test_a_callback_url_that_leads_inside_is_refused_at_the_door(deployment: Deployment, user: str) -> None:
    body = {"user_number": user, "message": "oi", "callback_url": "https://10.0.0.1/callback"}
    response = deployment.client.post(body)
    assert (response.status_code, response.json()["details"][0]["field"]) == (400, "callback_url")
