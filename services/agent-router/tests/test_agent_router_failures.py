"""The table of failures, row by row, and the promise that no failure falls through it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_agent_router.errors import (
    AgentBadRequest,
    AgentBadResponse,
    AgentCrashed,
    AgentInputTooLong,
    AgentNotFound,
    AgentQuotaSpent,
    AgentRateLimited,
    AgentRefused,
    AgentTimeout,
    AgentUnauthorized,
    AgentUnavailable,
)
from eai_agent_router.failures import CANONICAL_CODES, GOOGLE, OPENAI, RULES, Failure, classify, make_error
from eai_agent_router.json_api import read_failure
from eai_common.errors import Permanent, Retriable

EAI = "eai_agent_service"
CRASH = "Reasoning Engine Execution failed. Please refer to our documentation. Error Details: "
NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        # Google, canonical codes (both gRPC and REST)
        (Failure(GOOGLE, code="CANCELLED"), AgentUnavailable),
        (Failure(GOOGLE, code="UNKNOWN"), AgentCrashed),
        (Failure(GOOGLE, code="INVALID_ARGUMENT"), AgentBadRequest),
        (Failure(GOOGLE, code="DEADLINE_EXCEEDED"), AgentTimeout),
        (Failure(GOOGLE, code="NOT_FOUND"), AgentNotFound),
        (Failure(GOOGLE, code="ALREADY_EXISTS"), AgentBadRequest),
        (Failure(GOOGLE, code="PERMISSION_DENIED"), AgentUnauthorized),
        (Failure(GOOGLE, code="RESOURCE_EXHAUSTED"), AgentRateLimited),
        (Failure(GOOGLE, code="FAILED_PRECONDITION"), AgentBadRequest),
        (Failure(GOOGLE, code="ABORTED"), AgentUnavailable),
        (Failure(GOOGLE, code="OUT_OF_RANGE"), AgentBadRequest),
        (Failure(GOOGLE, code="UNIMPLEMENTED"), AgentBadRequest),
        (Failure(GOOGLE, code="INTERNAL"), AgentCrashed),
        (Failure(GOOGLE, code="UNAVAILABLE"), AgentUnavailable),
        (Failure(GOOGLE, code="DATA_LOSS"), AgentCrashed),
        (Failure(GOOGLE, code="UNAUTHENTICATED"), AgentUnauthorized),
        # Google, by what it says
        (Failure(GOOGLE, code="FAILED_PRECONDITION", message=CRASH + '{"detail":"psycopg: closed"}'), AgentCrashed),
        (Failure(GOOGLE, 400, "FAILED_PRECONDITION", CRASH + "429 Resource exhausted."), AgentQuotaSpent),
        (Failure(GOOGLE, 400, "FAILED_PRECONDITION", CRASH + "RESOURCE_EXHAUSTED"), AgentQuotaSpent),
        (Failure(GOOGLE, 400, "FAILED_PRECONDITION", CRASH + "x\nRequest Data: {'quota'}"), AgentCrashed),
        (
            Failure(GOOGLE, 400, "FAILED_PRECONDITION", CRASH + "input token count exceeds the maximum"),
            AgentInputTooLong,
        ),
        (
            Failure(GOOGLE, 400, "INVALID_ARGUMENT", "Reasoning Engine failed to start and cannot serve"),
            AgentUnavailable,
        ),
        (Failure(GOOGLE, 400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"), AgentInputTooLong),
        (Failure(GOOGLE, 400, "INVALID_ARGUMENT", "The prompt was blocked for SAFETY"), AgentRefused),
        # HTTP, whoever answers
        (Failure(EAI, 302), AgentBadResponse),
        (Failure(EAI, 400), AgentBadRequest),
        (Failure(EAI, 401), AgentUnauthorized),
        (Failure(EAI, 402), AgentUnavailable),
        (Failure(EAI, 403), AgentUnauthorized),
        (Failure(EAI, 404), AgentNotFound),
        (Failure(EAI, 405), AgentBadRequest),
        (Failure(EAI, 408), AgentTimeout),
        (Failure(EAI, 409), AgentUnavailable),
        (Failure(EAI, 410), AgentNotFound),
        (Failure(EAI, 413), AgentInputTooLong),
        (Failure(EAI, 418), AgentBadRequest),
        (Failure(EAI, 422), AgentBadRequest),
        (Failure(EAI, 422, message="context is too long"), AgentInputTooLong),
        (Failure(EAI, 425), AgentUnavailable),
        (Failure(EAI, 429), AgentRateLimited),
        (Failure(EAI, 499), AgentUnavailable),
        (Failure(EAI, 500), AgentCrashed),
        (Failure(EAI, 501), AgentBadRequest),
        (Failure(EAI, 502), AgentCrashed),
        (Failure(EAI, 503), AgentUnavailable),
        (Failure(EAI, 504), AgentTimeout),
        (Failure(EAI, 529), AgentCrashed),
        # OpenAI's own codes
        (Failure(OPENAI, 400, "context_length_exceeded"), AgentInputTooLong),
        (Failure(OPENAI, 400, "string_above_max_length"), AgentInputTooLong),
        (Failure(OPENAI, 400, "content_filter"), AgentRefused),
        (Failure(OPENAI, 400, "content_policy_violation"), AgentRefused),
        (Failure(OPENAI, 401, "invalid_api_key"), AgentUnauthorized),
        (Failure(OPENAI, 404, "model_not_found"), AgentNotFound),
        (Failure(OPENAI, 429, "rate_limit_exceeded"), AgentRateLimited),
        (Failure(OPENAI, 429, "insufficient_quota"), AgentUnavailable),
        (Failure(OPENAI), AgentCrashed),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{value.provider}-{value.status}-{value.code}",
)
def test_each_failure_is_one_error(failure: Failure, error: type[Exception]) -> None:
    assert classify(failure) is error


failures = st.builds(
    Failure,
    provider=st.sampled_from([GOOGLE, EAI, OPENAI]),
    status=st.none() | st.integers(300, 599),
    code=st.none() | st.sampled_from(sorted(CANONICAL_CODES.values())) | st.text("abc_", min_size=1, max_size=9),
    message=st.text("ŧßøæ", min_size=1, max_size=60),  # letters that no text of ours has
    retry_after=st.none() | st.timedeltas(timedelta(), timedelta(days=1)),
)


@given(failures)
def test_every_failure_is_an_error_that_hides_the_words_and_keeps_the_wish(failure: Failure) -> None:
    error = make_error(failure)
    assert isinstance(error, Retriable | Permanent)
    assert failure.message not in str(error)
    if isinstance(error, Retriable):
        assert error.retry_after == failure.retry_after


def test_the_last_rule_takes_whatever_is_left() -> None:
    last = RULES[-1]
    assert (last.provider, last.codes, last.statuses, last.words) == (None, frozenset(), frozenset(), None)


def google_error(status: int, name: str, *details: object) -> httpx.Response:
    error = {"code": status, "message": "no", "status": name, "details": list(details)}
    return httpx.Response(status, json={"error": error})


def test_googles_own_name_for_an_error_is_read_from_the_body() -> None:
    failure = read_failure(google_error(400, "FAILED_PRECONDITION"), GOOGLE, now=NOW)
    assert (failure.status, failure.code, failure.message) == (400, "FAILED_PRECONDITION", "no")


@pytest.mark.parametrize(("delay", "seconds"), [("13.5s", 13.5), (f"{'9' * 400}s", 6 * 3600)])
def test_googles_retry_info_is_a_pause(delay: str, seconds: float) -> None:
    retry_info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    response = google_error(429, "RESOURCE_EXHAUSTED", {"@type": "other"}, retry_info)
    assert read_failure(response, GOOGLE, now=NOW).retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("120", timedelta(seconds=120)),
        ("1.5", timedelta(seconds=1.5)),
        ("Thu, 01 Jan 2026 10:31:00 GMT", timedelta(seconds=60)),
        ("Thu, 01 Jan 2026 10:00:00 GMT", timedelta()),
        ("soon", None),
        ("-1", timedelta()),
        ("Fri, 31 Dec 9999 23:59:59 -1200", timedelta(hours=6)),
        (f"Thu, 01 Jan {'9' * 20} 12:00:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, wish: timedelta | None) -> None:
    response = httpx.Response(429, headers={"retry-after": header}, text="slow down")
    assert read_failure(response, EAI, now=NOW).retry_after == wish


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"detail":"x"}', b'{"error":"x"}', b"\xff\xfe", b'{"error":[]}'])
def test_a_body_of_another_shape_leaves_the_status_to_judge_by(body: bytes) -> None:
    failure = read_failure(httpx.Response(503, content=body), EAI, now=NOW)
    assert (failure.status, failure.code) == (503, None)


@pytest.mark.parametrize(
    ("detail", "error"),
    [
        ("the prompt is too long", AgentInputTooLong),
        ([{"msg": "field required", "input": "my card was blocked"}], AgentBadRequest),
    ],
    ids=["in words", "a list that repeats the request"],
)
def test_fastapis_errors_are_judged_by_their_words_not_the_users(detail: object, error: type[Exception]) -> None:
    assert classify(read_failure(httpx.Response(422, json={"detail": detail}), EAI, now=NOW)) is error


def test_free_text_in_place_of_a_code_is_not_taken_for_one() -> None:
    response = httpx.Response(400, json={"error": {"code": "the user said: my secret"}})
    assert read_failure(response, OPENAI, now=NOW).code is None
