"""JSON over HTTP with a provider, and the access token that goes along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import google.auth.credentials
import httpx
import pytest
from google.auth.exceptions import RefreshError, TransportError

from eai_agent_router.agent import Turn
from eai_agent_router.agent_engine import Engines
from eai_agent_router.agent_engine_rest import AgentEngineRest
from eai_agent_router.errors import (
    AgentBadResponse,
    AgentRateLimited,
    AgentTimeout,
    AgentUnauthorized,
    AgentUnavailable,
)
from eai_agent_router.failures import GOOGLE
from eai_agent_router.google_token import GoogleToken
from eai_agent_router.json_api import Authorization, JsonApi, StaticToken
from eai_agent_router.testing import deadline_in
from eai_common.clock import Deadline
from eai_common.testing import LoopClock, eventually

pytestmark = pytest.mark.virtual_time

Answering = Callable[[httpx.Request], httpx.Response]
OPERATION = "projects/rio/locations/us-central1/reasoningEngines/42/operations/7"


@asynccontextmanager
async def api_that(answers: Answering, authorization: Authorization | None = None) -> AsyncIterator[JsonApi]:
    """An API whose server is a function."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers), follow_redirects=False) as client:
        yield JsonApi(
            GOOGLE,
            client,
            "https://engine.example.org/",
            authorization or StaticToken(),
            LoopClock(),
        )


async def posted(
    answers: Answering, *, deadline: Deadline | None = None, authorization: Authorization | None = None
) -> object:
    async with api_that(answers, authorization) as api:
        return await api.post("/v1/x", {"a": 1}, message_id="id", deadline=deadline or deadline_in(5))


def failing(error: Exception) -> Answering:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return fail


async def test_a_byte_order_mark_in_front_is_dropped() -> None:
    assert await posted(lambda _: httpx.Response(200, content=b'\xef\xbb\xbf{"output": 1}')) == {"output": 1}


async def test_the_message_id_and_the_token_go_along() -> None:
    seen: list[httpx.Headers] = []

    def answers(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={})

    await posted(answers, authorization=StaticToken("t0ken"))
    assert (seen[0]["x-message-id"], seen[0]["authorization"]) == ("id", "Bearer t0ken")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"\xff", b"{'a': 1}"])
async def test_an_answer_that_is_not_json_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(AgentBadResponse) as caught:
        await posted(lambda _: httpx.Response(200, content=body))
    assert caught.value.evidence == body


async def test_a_redirect_is_not_followed() -> None:
    with pytest.raises(AgentBadResponse):
        await posted(lambda _: httpx.Response(302, headers={"location": "https://evil.example.org"}))


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("x"), httpx.ReadError("x"), httpx.RemoteProtocolError("x"), httpx.ConnectTimeout("x")],
    ids=lambda error: type(error).__name__,
)
async def test_a_provider_out_of_reach_is_unavailable_and_the_cause_is_kept(error: Exception) -> None:
    with pytest.raises(AgentUnavailable) as caught:
        await posted(failing(error))
    assert caught.value.__cause__ is error


async def test_a_broken_encoding_is_a_bad_response() -> None:
    with pytest.raises(AgentBadResponse):
        await posted(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, content=b"not gzip"))


async def test_a_call_without_time_left_is_a_timeout() -> None:
    with pytest.raises(AgentTimeout):
        await posted(lambda _: httpx.Response(200, json={}), deadline=deadline_in(0))


# Operations


async def asked(*answers: dict[str, object]) -> list[tuple[float, str]]:
    """Ask an engine whose server gives these answers in turn; gives when which paths were called."""
    left, calls = list(answers), list[tuple[float, str]]()

    def serve(request: httpx.Request) -> httpx.Response:
        calls.append((asyncio.get_running_loop().time(), request.url.path))
        return httpx.Response(200, json=left.pop(0))

    async with api_that(serve) as api:
        agent = AgentEngineRest(api, Engines("rio", "us-central1", "42"), LoopClock(), class_method="async_query")
        deadline = Deadline.after(timedelta(seconds=60))
        await agent.ask(Turn("id", "+5521999999999", "Oi"), deadline=deadline)
    return calls


RUNNING: dict[str, object] = {"name": OPERATION, "done": False}


@pytest.mark.parametrize(
    "done",
    [
        {"name": OPERATION, "done": True, "response": {"output": "Olá!"}},
        {"name": OPERATION, "done": True, "response": "Olá!"},
        {"name": OPERATION, "done": True, "response": {"messages": [{"type": "ai", "content": "Olá!"}]}},
        {"name": OPERATION, "done": True, "response": {"@type": "x", "output": "Olá!"}},
    ],
    ids=str,
)
async def test_an_operation_is_polled_by_its_name_until_it_is_done(done: dict[str, object]) -> None:
    calls = await asked(RUNNING, RUNNING, done)
    assert [path for _, path in calls[1:]] == [f"/v1beta1/{OPERATION}"] * 2


async def test_an_operation_that_is_done_at_once_is_not_polled() -> None:
    assert len(await asked({"name": OPERATION, "done": True, "response": "Olá!"})) == 1


async def test_the_pauses_between_polls_grow_to_five_seconds() -> None:
    calls = await asked(*[RUNNING] * 12, {"name": OPERATION, "done": True, "response": "Olá!"})
    times_s = [time_s for time_s, _ in calls]
    assert times_s[1] - times_s[0] == 0.5
    assert times_s[-1] - times_s[-2] == pytest.approx(5)


async def test_an_operation_that_failed_is_the_error_of_the_table() -> None:
    error = {"code": 8, "message": "quota", "details": [{"@type": "x", "retryDelay": "9s"}]}
    with pytest.raises(AgentRateLimited) as caught:
        await asked(RUNNING, {"name": OPERATION, "done": True, "error": error})
    assert caught.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize(
    "name",
    [
        "operations/7",
        "../../x",
        OPERATION + "/../8",
        OPERATION + "?x",
        "https://evil.example.org/x",
        OPERATION + ":cancel",
    ],
)
async def test_an_operations_name_never_walks_a_path(name: str) -> None:
    with pytest.raises(AgentBadResponse):
        await asked({"name": name, "done": False})


@pytest.mark.parametrize(
    "answer", [{"name": 7}, {"name": OPERATION, "done": "maybe"}, {"name": OPERATION, "error": 1}], ids=str
)
async def test_an_operation_of_another_shape_is_a_bad_response(answer: dict[str, object]) -> None:
    with pytest.raises(AgentBadResponse):
        await asked(answer)


# Google's access token


class FakeCredentials(google.auth.credentials.Credentials):
    """Refreshes as soon as it may, in whatever thread it is called."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failure = failure
        self.may_refresh = threading.Event()
        self.refreshed_in: list[str] = []

    def refresh(self, request: object) -> None:
        self.refreshed_in.append(threading.current_thread().name)
        self.may_refresh.wait(timeout=60)
        if self.failure is not None:
            raise self.failure
        self.token = f"token-{len(self.refreshed_in)}"


async def test_calls_that_need_a_token_wait_for_one_refresh_together_off_the_loop() -> None:
    credentials = FakeCredentials()
    token = GoogleToken(credentials)
    calls = [asyncio.create_task(token.headers()) for _ in range(10)]
    await eventually(lambda: credentials.refreshed_in)
    credentials.may_refresh.set()
    headers = await asyncio.gather(*calls)
    assert [dict(one) for one in headers] == [{"authorization": "Bearer token-1"}] * 10
    assert len(credentials.refreshed_in) == 1
    assert credentials.refreshed_in[0] != threading.main_thread().name


@pytest.mark.parametrize(
    ("failure", "error"),
    [(RefreshError, AgentUnauthorized), (TransportError, AgentUnavailable)],
    ids=["refused", "out of reach"],
)
async def test_a_token_that_cannot_be_had_is_an_error_of_the_port(
    failure: type[Exception], error: type[Exception]
) -> None:
    credentials = FakeCredentials(failure("invalid_grant"))
    credentials.may_refresh.set()
    with pytest.raises(error):
        await GoogleToken(credentials).headers()


async def test_a_slow_token_counts_against_the_deadline() -> None:
    slow = FakeCredentials()
    with pytest.raises(AgentTimeout):
        await posted(
            lambda _: httpx.Response(200, json={}), deadline=deadline_in(0.01), authorization=GoogleToken(slow)
        )
    slow.may_refresh.set()  # so that its thread ends
