"""The client of Redis: who shares a round trip, whose error is whose, what is an outage, and what one costs."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from eai_common.settings import RedisSettings
from eai_common.store import (
    Command,
    RedisClient,
    Request,
    Script,
    StoreUnavailable,
    command,
    open_client,
    open_memory_redis,
    open_redis,
    together,
    together_all,
)
from eai_common.testing import eventually, run_ready

SECOND = timedelta(seconds=1)
ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


def settings_of(url: str, timeout: str = "1s") -> RedisSettings:
    return RedisSettings.read({"REDIS_URL": url, "REDIS_TIMEOUT": timeout})


def first(replies: Any) -> object:
    return replies[0]


def echo(client: RedisClient, word: str) -> Request[object]:
    return client.request(command("ECHO", word), decode=first)


class Pipelines:
    """Counts the pipelines that redis-py's connections send, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[bytes] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        send = AbstractConnection.send_packed_command

        async def held_send(connection: Any, packed: Any, check_health: bool = True) -> None:
            if isinstance(packed, list) and b"CLIENT" not in packed[0]:
                await self.may_send.wait()
                self.sent.append(b"".join(packed))
            await send(connection, packed, check_health)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", held_send)

    def __len__(self) -> int:
        return len(self.sent)


class ClientContract:
    """What the client does with any Redis. A test class gives `client`, which has connected."""

    @pytest.fixture()
    def pipelines(self, client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> Pipelines:
        return Pipelines(monkeypatch)

    @pytest.fixture()
    def key(self) -> str:
        return f"test:{uuid.uuid4()}"

    async def test_replies_come_in_the_order_of_the_commands(self, client: RedisClient, key: str) -> None:
        asked = (command("SET", key, "1", "PX", 9000), command("GET", key), command("PTTL", "nothing"))
        assert await client.run(asked) == [b"OK", b"1", -2]

    async def test_a_request_is_decoded_and_sent_each_time_that_it_is_awaited(
        self, client: RedisClient, key: str
    ) -> None:
        counting = client.request(command("INCR", key), decode=lambda replies: [replies[0]])
        assert [await counting, await counting] == [[1], [2]]

    async def test_requests_go_together_and_each_gets_its_own(self, client: RedisClient, pipelines: Pipelines) -> None:
        none = client.request(command("PING"))
        assert await together(echo(client, "a"), none, echo(client, "b")) == (b"a", None, b"b")
        assert await together_all([echo(client, word) for word in "cde"]) == [b"c", b"d", b"e"]
        assert len(pipelines) == 2

    async def test_each_caller_gets_its_own_replies(self, client: RedisClient) -> None:
        words = [str(number) for number in range(2000)]
        replies = await asyncio.gather(*(together(echo(client, word), echo(client, word)) for word in words))
        assert replies == [(word.encode(), word.encode()) for word in words]

    async def test_callers_that_come_together_share_a_round_trip(
        self, client: RedisClient, pipelines: Pipelines
    ) -> None:
        await asyncio.gather(*(client.ping() for _ in range(100)))
        assert len(pipelines) == 1

    async def test_callers_that_come_while_one_is_under_way_share_the_next(
        self, client: RedisClient, pipelines: Pipelines
    ) -> None:
        pipelines.may_send.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(client.run([command("PING")]))
            await run_ready()
            for _ in range(50):
                group.create_task(client.run([command("PING")]))
            await run_ready()
            pipelines.may_send.set()
        assert len(pipelines) == 2

    async def test_large_commands_of_many_callers_go_in_several_pipelines(
        self, client: RedisClient, pipelines: Pipelines
    ) -> None:
        words = [str(number) * 2**20 for number in range(10)]
        assert await asyncio.gather(*(echo(client, word) for word in words)) == [word.encode() for word in words]
        assert 1 < len(pipelines) < 10

    async def test_one_callers_error_is_not_anothers(self, client: RedisClient, key: str) -> None:
        wrong = client.request(command("INCRBY", key, "x"))
        outcomes = await asyncio.gather(
            echo(client, "a"), together(wrong, client.ping()), echo(client, "b"), return_exceptions=True
        )
        assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (b"a", ResponseError, b"b")

    async def test_a_script_costs_one_round_trip_from_the_first_time_on(
        self, client: RedisClient, pipelines: Pipelines, key: str
    ) -> None:
        for number in range(3):
            await asyncio.gather(*(client.request(ADD.call([key], [1]), command("PING")) for _ in range(10)))
            assert len(pipelines) == number + 1
        assert [b"INCRBY" in sent for sent in pipelines.sent] == [True, False, False]
        assert await client.driver.getdel(key) == b"30"

    async def test_a_script_that_the_server_has_forgotten_is_sent_to_it_again(
        self, client: RedisClient, key: str
    ) -> None:
        await client.request(ADD.call([key], [1]))
        await client.driver.script_flush()
        replies = await client.run([command("ECHO", "a"), ADD.call([key], [1]), command("ECHO", "b")])
        assert replies == [b"a", 2, b"b"]
        await client.driver.delete(key)

    async def test_a_caller_that_is_cancelled_takes_nobody_with_it(
        self, client: RedisClient, pipelines: Pipelines
    ) -> None:
        pipelines.may_send.clear()
        under_way = asyncio.ensure_future(echo(client, "first"))
        await run_ready()
        waiting = [asyncio.ensure_future(echo(client, word)) for word in "abc"]
        await run_ready()
        under_way.cancel()
        waiting[1].cancel()
        pipelines.may_send.set()
        assert [await waiting[0], await waiting[2]] == [b"a", b"c"]

    async def test_once_closed_it_refuses_instead_of_waiting_for_ever(
        self, client: RedisClient, pipelines: Pipelines
    ) -> None:
        pipelines.may_send.clear()
        async with open_client(client.driver, SECOND) as other:
            under_way = asyncio.ensure_future(other.ping())
            await run_ready()
            waiting = asyncio.ensure_future(other.ping())
            await run_ready()
        outcomes = await asyncio.gather(under_way, waiting, other.ping(), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}

    async def test_more_callers_than_can_be_served_are_refused(self, client: RedisClient, pipelines: Pipelines) -> None:
        pipelines.may_send.clear()
        calls = [asyncio.ensure_future(client.ping()) for _ in range(10_001)]
        await eventually(calls[-1].done)
        pipelines.may_send.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(StoreUnavailable) == 1


class TestClientOfMemoryRedis(ClientContract):
    """The Redis inside of the process."""

    @pytest.fixture()
    async def client(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as client:
            await client.ping()
            yield client


class TestClientOfRealRedis(ClientContract):
    """A Redis server."""

    @pytest.fixture()
    async def client(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(settings_of(redis_server.url)) as client:
            await client.ping()
            yield client

    async def test_an_outage_is_waited_for_once_and_its_end_is_noticed(
        self, client: RedisClient, own_redis: Any
    ) -> None:
        own_redis.kill()
        try:
            with pytest.raises(StoreUnavailable):
                await client.ping()
            with pytest.raises(StoreUnavailable, match="a moment ago"):
                await client.ping()
        finally:
            own_redis.start()
        await eventually(lambda: answers(client))

    async def test_a_connection_that_the_server_closed_is_replaced_and_nobody_notices(
        self, client: RedisClient
    ) -> None:
        await client.driver.client_kill_filter(_type="normal", skipme=True)
        assert await echo(client, "a") == b"a"


async def answers(client: RedisClient) -> bool:
    try:
        await client.ping()
    except StoreUnavailable:
        return False
    return True


# Between the client and a server: silent, slow, cut


class Between:
    """A server that passes everything on to a Redis, unless it is told to be silent or to reset its connections."""

    def __init__(self, redis_url: str) -> None:
        self.redis_port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
        self.connections = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.resets_next = False
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        answers, asks = await asyncio.open_connection("127.0.0.1", self.redis_port)
        self.writers.append(asks)
        answering = asyncio.create_task(self._answer(answers, writer))
        while data := await reader.read(2**16):
            if self.resets_next:
                self.resets_next = False
                self.reset(writer)
                break
            asks.write(data)
        answering.cancel()
        asks.close()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await self.may_answer.wait()
            writer.write(data)

    def reset(self, writer: asyncio.StreamWriter) -> None:
        """Cut the connection with RST instead of FIN."""
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def between(redis_url: str, timeout: str) -> AsyncIterator[tuple[Between, RedisClient]]:
    line = Between(redis_url)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    settings = settings_of(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout=timeout)
    async with server, open_redis(settings) as client:
        await client.ping()
        try:
            yield line, client
        finally:
            line.may_answer.set()
            line.close()


@pytest.mark.blocks_the_loop()
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
async def test_a_loop_that_was_blocked_while_redis_answered_gets_the_answer(redis_server: Any, run: Any) -> None:
    async def blocked() -> list[Any]:
        async with open_redis(settings_of(redis_server.url, timeout="500ms")) as client:
            await client.ping()
            asked = [asyncio.ensure_future(together(client.request(SLOW.call([])), echo(client, "a")))]
            await run_ready()
            asked.append(asyncio.ensure_future(together(client.ping(), echo(client, "b"))))
            await run_ready()
            time.sleep(1)  # the stall that this test is about
            return await asyncio.gather(*asked, return_exceptions=True)

    assert await asyncio.to_thread(run, blocked()) == [(None, b"a"), (None, b"b")]


SLOW = Script("""
local began = redis.call('TIME')
repeat local now = redis.call('TIME') until (now[1] - began[1]) * 1000000 + now[2] - began[2] > 100000
""")


async def test_a_short_silence_costs_those_who_wait_too_long_and_nobody_else(redis_server: Any) -> None:
    async with between(redis_server.url, "400ms") as (line, client):
        line.may_answer.clear()
        early = asyncio.ensure_future(echo(client, "early"))
        await asyncio.sleep(0.25)  # the server is real, so its silence is, too
        late = asyncio.ensure_future(echo(client, "late"))
        patient = asyncio.ensure_future(echo(client.with_timeout(timedelta(seconds=5)), "patient"))
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.4 s"):
            await early
        with pytest.raises(StoreUnavailable, match="a moment ago"):
            await client.ping()
        line.may_answer.set()
        assert [await late, await patient] == [b"late", b"patient"]
        assert await echo(client, "after") == b"after"


async def test_a_connection_that_stays_silent_is_replaced(redis_server: Any) -> None:
    async with between(redis_server.url, "300ms") as (line, client):
        line.may_answer.clear()
        with pytest.raises(StoreUnavailable):
            await client.ping()
        await eventually(lambda: line.connections > 1)
        line.may_answer.set()
        await eventually(lambda: answers(client))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
async def test_a_reset_connection_is_replaced_and_nobody_notices(redis_server: Any, run: Any) -> None:
    async def reset() -> list[object]:
        async with between(redis_server.url, "1s") as (line, client):
            seen: list[object] = []
            for number in range(5):
                line.resets_next = True
                seen.append(await echo(client, str(number)))
                for writer in line.writers[-2:-1]:
                    line.reset(writer)  # while nothing is asked: found out by the next write
            return seen

    assert await asyncio.to_thread(run, reset()) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.fixture()
def silent_server() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_server_that_does_not_answer_costs_its_first_callers_half_a_second_and_the_next_nothing(
    silent_server: str,
) -> None:
    async with open_redis(settings_of(silent_server, timeout="1h")) as patient:
        client = patient.with_timeout(timedelta(seconds=0.5))
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.5 s"):
            await client.ping()
        outcomes = await asyncio.gather(*(client.ping() for _ in range(100)), return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"Redis: out of reach a moment ago"}


# What Redis refuses


class Refusing:
    """A server that answers the handshake, and everything else with one error."""

    def __init__(self, error: str) -> None:
        self.error = error

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = [await self._word(reader) for _ in range(int(line[1:]))]
            handshake = {b"CLIENT": b"+OK\r\n", b"SELECT": b"+OK\r\n", b"PING": b"+PONG\r\n"}
            writer.write(handshake.get(asked[0], f"-{self.error}\r\n".encode()))
        writer.close()

    async def _word(self, reader: asyncio.StreamReader) -> bytes:
        size = int((await reader.readline())[1:])
        return (await reader.readexactly(size + 2))[:-2]


SCRIPT = "ERR Error running script (call to f_8f34ae): @user_script:3: @user_script: 3:"
REFUSALS = {
    "LOADING Redis is loading the dataset in memory": "BusyLoadingError",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "MISCONF",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "BUSY",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "NOPERM this user has no permissions to run the 'get' command": "NoPermissionError",
    "READONLY You can't write against a read only replica.": "ReadOnlyError",
    "OOM command not allowed when used memory > 'maxmemory'.": "OutOfMemoryError",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "MasterDownError",
    "TRYAGAIN Multiple keys request during rehashing of slot": "TryAgainError",
    "CLUSTERDOWN The cluster is down": "ClusterDownError",
    "NOAUTH Authentication required.": "AuthenticationError",
    f"{SCRIPT} -READONLY You can't write against a read only replica.": "READONLY",
    f"{SCRIPT} -OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    f"{SCRIPT} MISCONF Errors writing to the AOF file: No space left on device": "MISCONF",
    "NOREPLICAS Not enough good replicas to write. script: 8f34ae, on @user_script:3.": "NOREPLICAS",
}


@asynccontextmanager
async def refusing(error: str) -> AsyncIterator[RedisClient]:
    server = await asyncio.start_server(Refusing(error).serve, "127.0.0.1", 0)
    settings = settings_of(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    async with server, open_redis(settings) as client:
        yield client


@pytest.mark.parametrize("asked", [command("GET", "key"), ADD.call(["key"], [1])], ids=["command", "script"])
@pytest.mark.parametrize("error", REFUSALS, ids=[f"{error.split()[0]}-{n}" for n, error in enumerate(REFUSALS)])
async def test_what_redis_refuses_for_a_while_is_unavailable(error: str, asked: Command) -> None:
    async with refusing(error) as client:
        outcomes = await asyncio.gather(
            client.request(asked), client.request(command("GET", "another"), asked), return_exceptions=True
        )
        assert {(type(outcome), str(outcome)) for outcome in outcomes} == {
            (StoreUnavailable, f"Redis: {REFUSALS[error]}")
        }


@pytest.mark.parametrize(
    "error",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR value is not an integer or out of range",
        "ERR the word BUSY in a text",
        f"{SCRIPT} Script attempted to access nonexistent global variable 'READONLY'",
    ],
)
async def test_what_is_our_own_mistake_is_not_called_an_outage(error: str) -> None:
    async with refusing(error) as client:
        with pytest.raises(ResponseError):
            await client.request(command("GET", "key"))


async def test_a_replica_that_was_a_primary_is_left_for_whoever_is_behind_the_address_now(redis_server: Any) -> None:
    async with between(redis_server.url, "1s") as (line, client):
        await client.driver.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(StoreUnavailable, match="ReadOnlyError"):
                await client.request(command("SET", "key", "value"))
            before = line.connections
        finally:
            await client.driver.replicaof("NO", "ONE")
        await client.ping()
        assert line.connections == before + 1
