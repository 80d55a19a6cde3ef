"""Translates our messages to AMQP properties and headers, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiormq import spec
from aiormq.abc import DeliveredMessage

from eai_common.broker import Headers, Outgoing
from eai_common.broker.headers import DELIVERY_LIMIT, DeadLetter, dead_letter_headers

__all__ = [
    "copy_properties",
    "event",
    "first_routing_key",
    "headers",
    "make_properties",
    "message_id",
    "redeliveries",
    "timestamp",
]

# Our own headers, hidden from stages. AMQP's timestamp has whole seconds; RabbitMQ's timestamp interceptor uses this
# name for milliseconds.
_TIMESTAMP = "timestamp_in_ms"
_ROUTING_KEY = "x-eai-routing-key"  # on copies, whose own routing key is a queue's name
_NO_MESSAGE_ID = "x-eai-no-message-id"  # aiormq invents an id for a message that has none
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-")
_HIDDEN = (*_BROKERS_OWN, _TIMESTAMP, _ROUTING_KEY, _NO_MESSAGE_ID)

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PERSISTENT = 2


def make_properties(message: Outgoing, *, copy_of: str | None = None) -> spec.Basic.Properties:
    """The properties of a new message; of a copy, the routing key of what it is a copy of."""
    kept: dict[str, Any] = {**message.headers, _TIMESTAMP: (message.timestamp - _EPOCH) // _MILLISECOND}
    if copy_of is not None:
        kept[_ROUTING_KEY] = copy_of
    return spec.Basic.Properties(
        content_type=message.content_type,
        delivery_mode=_PERSISTENT,
        message_id=message.message_id,
        timestamp=message.timestamp,
        message_type=message.event,
        headers=kept,
    )


def copy_properties(message: DeliveredMessage, new_headers: Headers) -> spec.Basic.Properties:
    """The properties of a copy for the ladder or the dead letters: the old ones, with new headers.

    Two are left out: an expiration would drop the copy, and the broker compares a user id with ours.
    """
    old = message.header.properties
    kept: dict[str, Any] = {**new_headers, _ROUTING_KEY: first_routing_key(message)}
    raw = old.headers or {}
    if _TIMESTAMP in raw:
        kept[_TIMESTAMP] = raw[_TIMESTAMP]
    if message_id(message) is None:
        kept[_NO_MESSAGE_ID] = 1
    return spec.Basic.Properties(
        content_type=old.content_type,
        content_encoding=old.content_encoding,
        delivery_mode=_PERSISTENT,
        priority=old.priority,
        correlation_id=old.correlation_id,
        reply_to=old.reply_to,
        message_id=message_id(message),
        timestamp=old.timestamp,
        message_type=old.message_type,
        app_id=old.app_id,
        headers=kept,
    )


def message_id(message: DeliveredMessage) -> str | None:
    if _NO_MESSAGE_ID in _raw(message):
        return None
    return message.header.properties.message_id or None


def event(message: DeliveredMessage) -> str | None:
    return message.header.properties.message_type or None


def timestamp(message: DeliveredMessage) -> datetime | None:
    milliseconds = _raw(message).get(_TIMESTAMP)
    if isinstance(milliseconds, int):
        return _EPOCH + milliseconds * _MILLISECOND
    return message.header.properties.timestamp


def headers(message: DeliveredMessage) -> dict[str, str | int]:
    """The application's headers; for a message that the broker itself dead-lettered, with the reason."""
    ours = {
        name: value
        for name, value in _raw(message).items()
        if isinstance(value, str | int) and not name.startswith(_HIDDEN)
    }
    death = _over_limit(message)
    if death is None:
        return ours
    return dead_letter_headers(ours, DeadLetter(DELIVERY_LIMIT, str(death["queue"]), death["time"]))


def first_routing_key(message: DeliveredMessage) -> str:
    """The key it was published with, before any copy was made of it."""
    if (kept := _raw(message).get(_ROUTING_KEY)) is not None:
        return str(kept)
    if (death := _over_limit(message)) is not None:
        return str(death["routing-keys"][0])
    return message.routing_key or ""


def redeliveries(message: DeliveredMessage) -> int:
    """Quorum queues count; classic queues have a flag."""
    counted = _raw(message).get("x-delivery-count")
    return counted if isinstance(counted, int) else int(bool(message.redelivered))


def _over_limit(message: DeliveredMessage) -> dict[str, Any] | None:
    """The entry of `x-death` for the delivery limit, if the broker dead-lettered the message for that."""
    deaths = _raw(message).get("x-death") or []
    return next((death for death in deaths if death.get("reason") == "delivery_limit"), None)


def _raw(message: DeliveredMessage) -> dict[str, Any]:
    return message.header.properties.headers or {}
