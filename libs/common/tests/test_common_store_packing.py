"""Commands that hiredis writes are, byte for byte, those that redis-py would have written."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.connection import AbstractConnection

from eai_common.settings import RedisSettings
from eai_common.store import open_redis
from eai_common.store.packing import pack_in_c

ARGUMENTS = st.lists(st.text(max_size=50) | st.binary(max_size=9000) | st.integers(-(2**63), 2**63 - 1), max_size=8)


def packed(connection: AbstractConnection, *args: Any) -> bytes:
    return b"".join(connection.pack_command(*args))


@given(ARGUMENTS)
def test_a_command_is_the_same_whoever_writes_it(arguments: list[Any]) -> None:
    pool = ConnectionPool()
    pack_in_c(pool)
    ours = pool.connection_class()
    assert packed(ours, "SET", *arguments) == packed(Connection(), "SET", *arguments)
    assert packed(ours, "SCRIPT LOAD", *arguments) == packed(Connection(), "SCRIPT LOAD", *arguments)


async def test_the_client_writes_by_hiredis() -> None:
    async with open_redis(RedisSettings.read({"REDIS_URL": "rediss://127.0.0.1:1/0"})) as redis:
        kind = redis.connection_pool.connection_class
    assert (kind.__name__, kind.pack_command is AbstractConnection.pack_command) == ("SSLConnection", False)
