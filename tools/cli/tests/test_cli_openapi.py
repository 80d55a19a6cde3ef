"""The API description: of every route that clients ask, valid, and true of what the services really answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from eai_common.broker.memory import MemoryBroker
from eai_common.clock import SystemClock
from eai_common.http import HttpParts, api_docs_routes, build_app
from eai_common.http.api_docs import page
from eai_common.http.openapi import Operation, document
from eai_common.ids import Ids
from eai_common.messages import AgentReplied, MessageFailed
from eai_common.replies import AssistantMessage, UsageStatistics
from eai_common.results import ResultAnswer
from eai_common.service import Parts, Service
from eai_common.settings import load
from eai_common.store import open_memory_redis, open_wakeups
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM
from eai_common.topology import Topology
from eai_formatter.rendering import Formatted
from eai_formatter.result import completed_result, failed_result
from eai_formatter.texts import FailureText
from eai_ingress.service import INGRESS
from eai_poller.service import POLLER

NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
BOTH = pytest.mark.parametrize("definition", [INGRESS, POLLER], ids=["ingress", "poller"])


@asynccontextmanager
async def built(definition: Any, **environ: str) -> AsyncIterator[tuple[Service, HttpParts]]:
    """The service as its wiring makes it, in memory."""
    settings, clock = load(definition.settings, environ), SystemClock()
    tracing = open_tracing(settings.telemetry, service=definition.name)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_memory_redis())
        broker = await stack.enter_async_context(MemoryBroker(Topology("x", "eai"), clock))
        wakeups = await stack.enter_async_context(open_wakeups(redis))
        parts = Parts(redis, clock, RANDOM, Ids(clock, RANDOM), Metrics(), tracing, broker, wakeups)
        service = await stack.enter_async_context(definition.build(settings, parts))
        yield service, HttpParts(parts.ids, parts.metrics, tracing, settings.http, settings.telemetry)


def described(operations: Any, *, has_auth: bool = True) -> dict[str, Any]:
    return document(operations, title="Gateway", version="1", description="", has_auth=has_auth)


@BOTH
async def test_every_route_is_described_and_nothing_else(definition: Any) -> None:
    async with built(definition) as (service, _):
        routes = {
            (method, route.path)
            for route in service.routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }
        assert {(one.method, one.path) for one in service.operations} == routes


@BOTH
async def test_every_example_of_an_answer_is_valid_by_its_own_model(definition: Any) -> None:
    async with built(definition) as (service, _):
        answers = [answer for one in service.operations for answer in one.answers.values() if answer.model]
    examples = [(answer.model, example) for answer in answers for example in answer.examples.values()]
    for model, example in examples:
        assert model is not None
        model.model_validate(example)
    assert examples


@BOTH
async def test_the_description_and_its_page_are_served_to_all_and_need_nothing_from_elsewhere(definition: Any) -> None:
    async with built(definition, API_TOKEN="secret") as (service, parts):
        docs = api_docs_routes(service.operations, title="Gateway", has_auth=True)
        app = build_app([*service.routes, *docs], parts)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            html, described_ = await client.get("/docs"), await client.get("/openapi.json")
    assert (html.status_code, described_.status_code, described_.json()["openapi"]) == (200, 200, "3.1.0")
    assert "default-src 'none'" in html.headers["content-security-policy"]
    loaded = re.findall(r"""(?:src|href)=["']?([^"'#>]*)""", html.text)
    assert (set(loaded), re.findall(r"url\(|@import|<script", html.text)) == ({"", "openapi.json"}, [])


@BOTH
async def test_without_authentication_none_is_described(definition: Any) -> None:
    async with built(definition) as (service, _):
        found = described(service.operations, has_auth=False)
    assert "securitySchemes" not in found["components"]
    assert all("security" not in operation for path in found["paths"].values() for operation in path.values())


@pytest.mark.parametrize(("mode", "status", "opaque"), [("described", "202", False), ("predecessor", "201", True)])
async def test_the_description_follows_the_switch_for_the_predecessors_clients(
    mode: str, status: str, opaque: bool
) -> None:
    async with built(INGRESS, API_COMPATIBILITY=mode) as (service, _):
        found = described(service.operations)
    webhook = found["paths"]["/api/v1/message/webhook/user"]["post"]
    pattern = found["components"]["schemas"]["WebhookRequest"]["properties"]["user_number"]["pattern"]
    assert (status in webhook["responses"], bool(re.search(pattern, "user_ab12cd34"))) == (True, opaque)


def test_a_page_shows_what_it_is_told_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    operation = Operation("GET", f"/{hostile}", "x", hostile, f"`{hostile}`", {})
    assert "<script" not in "".join(page(described([operation])))


# What the formatter stores is what the poller describes


def test_a_completed_result_is_as_described() -> None:
    event = AgentReplied(
        message_id="018f2b5e-0000-7000-8000-00000000abcd",
        user_number="+5521999990000",
        timestamp=NOW,
        agent_id="user_1",
        messages=[AssistantMessage(id="1", content="Olá"), UsageStatistics()],
    )
    ResultAnswer.model_validate(completed_result(event, now=NOW, format_text=lambda text: Formatted(text, [text])))


def test_a_failed_result_is_as_described() -> None:
    event = MessageFailed(
        message_id="018f2b5e-0000-7000-8000-00000000abcd",
        user_number="+5521999990000",
        timestamp=NOW,
        error_code="AGENT_TIMEOUT",
        error="x",
        failed_stage="agent-router",
    )
    ResultAnswer.model_validate(failed_result(event, FailureText(error="Too slow", text="Desculpe"), now=NOW))
