"""The codec: what leaves the process for a queue or Redis is what it made, and only it can read that again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from eai_common.codec import PLAIN
from eai_common.messages import InvalidMessage, MessageText, decode, encode, salvage
from eai_common.settings import TaskSettings
from eai_common.store import RedisClient, TaskStore, open_memory_redis

AT = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = MessageText(
    message_id="01890a5d-ac96-774b-bcce-b302099a8057",
    user_number="+5521999990000",
    message="segredo",
    message_type="text",
    timestamp=AT,
)


class Backwards:
    """Anybody can read it, but not by accident."""

    def encode(self, json: bytes) -> bytes:
        return b"!" + json[::-1]

    def decode(self, body: bytes) -> bytes:
        if not body.startswith(b"!"):
            raise ValueError("not written backwards")
        return body[:0:-1]


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as redis:
        yield redis


def read(body: bytes) -> MessageText:
    return decode(body, event_name=EVENT.name, accepts=[MessageText], fallback_time=None, codec=Backwards())


def test_an_event_is_read_by_the_codec_that_wrote_it() -> None:
    body = encode(EVENT, Backwards())
    assert (read(body), b"segredo" in body) == (EVENT, False)
    found = salvage(body, Backwards())
    assert found is not None
    assert found.message_id == EVENT.message_id


def test_a_body_that_the_codec_cannot_read_is_an_invalid_message() -> None:
    with pytest.raises(InvalidMessage, match="not written backwards"):
        read(encode(EVENT))
    assert salvage(encode(EVENT), Backwards()) is None


def test_the_plain_codec_leaves_json_as_it_is() -> None:
    assert PLAIN.decode(PLAIN.encode(b"{}")) == b"{}"


async def test_a_result_is_stored_as_the_codec_made_it(redis: RedisClient) -> None:
    tasks = TaskStore(redis, TaskSettings(), Backwards())
    await tasks.finish("1", "completed", b'{"text":"segredo"}', at=AT, accepted_at=AT)
    stored = await redis.driver.get("task:{1}")
    assert (b"segredo" in (stored or b""), (await tasks.read("1")).result) == (False, b'{"text":"segredo"}')
