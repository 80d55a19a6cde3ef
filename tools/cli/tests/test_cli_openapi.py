"""The API description: of every route that clients ask, valid, and true of what the services really answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from eai_common.http.api_docs import render_page
from eai_common.http.openapi import Operation, describe_api
from eai_common.messages import AgentReplied, MessageFailed
from eai_common.process import Service
from eai_common.process.testing import open_in_memory
from eai_common.replies import AssistantMessage, UsageStatistics
from eai_common.results import ResultAnswer
from eai_formatter.rendering import Formatted
from eai_formatter.result import completed_result, failed_result
from eai_formatter.texts import FailureText
from eai_ingress.service import INGRESS
from eai_poller.service import POLLER

NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
BOTH = pytest.mark.parametrize("definition", [INGRESS, POLLER], ids=["ingress", "poller"])


@asynccontextmanager
async def built(definition: Any, **environ: str) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """The service as its process composes it, and a client of it."""
    async with open_in_memory([definition], environ) as tested:
        ((_, service),) = tested.process.services
        yield service, tested.client


def described(operations: Any, *, has_auth: bool = True) -> dict[str, Any]:
    return describe_api(operations, title="Gateway", version="1", description="", has_auth=has_auth)


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
    async with built(definition, API_TOKEN="secret") as (_, client):
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
    assert "<script" not in "".join(render_page(described([operation])))


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
