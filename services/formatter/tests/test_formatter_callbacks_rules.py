"""The rules of callbacks, each by itself: bodies, signatures, tokens, answers, turns and settings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from eai_common.clock import Deadline
from eai_common.guards import Call, Guard, GuardWait
from eai_common.messages import TaskCompleted
from eai_common.outbound import (
    Answered,
    HostRule,
    OutboundPolicy,
    OutboundRefused,
    OutboundTimeout,
    OutboundUnknownHost,
    OutboundUnreachable,
    Target,
)
from eai_common.settings import SettingsError
from eai_common.stage import Attempt, StageContext
from eai_common.store import StoreUnavailable
from eai_common.telemetry import Metrics
from eai_common.testing import LoopClock, pass_time, run_ready
from eai_common.topology import LADDER
from eai_formatter.callbacks import CallbackSender, CallbackSettings, SharedResolver
from eai_formatter.callbacks.answers import CallbackFailed, DeliveryResult, NoAnswer, fail_without_answer, read_answer
from eai_formatter.callbacks.hosts import CallbackOverdue, HostBusy, HostDown, HostRules, guard_hosts
from eai_formatter.callbacks.log import CallbackAttempt
from eai_formatter.callbacks.payload import build_payload
from eai_formatter.callbacks.sender import CallbackRules
from eai_formatter.callbacks.signing import Bearer, Signer, parse_secrets
from eai_formatter.callbacks.stage import RETRIES
from eai_formatter.sender import SendResult

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HTTP_TOO = OutboundPolicy(allow_http=True)


def an_end(**fields: object) -> TaskCompleted:
    return TaskCompleted.model_validate(
        {
            "message_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "user_number": "+5521999990000",
            "timestamp": NOW,
            "status": "completed",
            "callback_url": "https://crm.example.org/hook",
            "result": {"status": "completed", "data": {"messages": []}, "processing_time_ms": 10},
            **fields,
        }
    )


# Bodies and signatures


def test_what_a_result_lacks_is_null_and_its_own_fields_cannot_pass_for_ours() -> None:
    body = json.loads(
        build_payload(an_end(result={"message_id": "another", "timestamp": 1, "processing_time_ms": None}))
    )
    assert body == {
        "message_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "status": "completed",
        "data": None,
        "error": None,
        "timestamp": "2026-01-01T12:00:00.000Z",
        "processed_at": "01890a5d-ac96-774b-bcce-b302099a8057",
        "processing_time_ms": None,
    }


@given(st.text(), st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3, unique=True))
def test_every_secret_verifies_whatever_the_text(text: str, keys: list[bytes]) -> None:
    body = json.dumps({"content": text}, ensure_ascii=False).encode("utf-8", "replace")
    headers = dict(Signer(keys).headers("id", body, at=datetime.now(UTC)))
    assert all(Webhook(key).verify(body, headers) == json.loads(body) for key in keys)


@pytest.mark.parametrize("padding", ["", "=="], ids=["whole", "padded"])
def test_a_secret_is_read_as_the_library_reads_it(padding: str) -> None:
    secret = "whsec_" + ("QUJD" * 10 if not padding else "QUJD" * 8 + "QQ==")
    body = b"{}"
    headers = dict(Signer(parse_secrets(secret)).headers("id", body, at=datetime.now(UTC)))
    assert Webhook(secret).verify(body, headers) == {}


@pytest.mark.parametrize(
    "secrets",
    ["secret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???", "whsec_QUJD", f"whsec_{'QUJD' * 22}", "whsec_"],
    ids=["a word", "without its prefix", "not base64", "too short", "too long", "empty"],
)
def test_a_secret_of_another_form_is_refused_and_not_shown(secrets: str) -> None:
    with pytest.raises(SettingsError) as refused:
        CallbackSettings.read({"CALLBACK_SECRETS": secrets})
    assert "CALLBACK_SECRETS: got a value that is not shown, takes secrets separated by commas" in str(refused.value)


# The bearer token


@pytest.mark.parametrize(
    ("url", "sees_it"),
    [
        ("https://crm.example.org/hook", True),
        ("https://CRM.example.org:8443/hook", True),
        ("https://a.partner.example/", True),
        ("http://crm.example.org/hook", False),
        ("https://crm.example.org.evil.example/", False),
        ("https://evil.example/?crm.example.org", False),
        ("https://xcrm.example.org/", False),
    ],
)
def test_only_listed_hosts_see_the_token_and_only_over_tls(url: str, *, sees_it: bool) -> None:
    bearer = Bearer("token", (HostRule.parse("crm.example.org"), HostRule.parse(".partner.example")))
    assert bearer.headers(Target.parse(url, HTTP_TOO)) == ({"Authorization": "Bearer token"} if sees_it else {})


def test_a_token_without_hosts_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="CALLBACK_BEARER_HOSTS: is required with CALLBACK_BEARER_TOKEN"):
        CallbackSettings.read({"CALLBACK_BEARER_TOKEN": "token"})


def test_one_host_may_not_have_all_places() -> None:
    with pytest.raises(SettingsError, match='CALLBACK_MAX_PARALLEL_PER_HOST: got "10", takes at most half of'):
        CallbackSettings.read({"CALLBACK_MAX_PARALLEL": "19"})


# Answers


@pytest.mark.parametrize(
    ("status", "label", "state", "is_host_down"),
    [
        (200, "delivered", "delivered", False),
        (299, "delivered", "delivered", False),
        (410, "gone", "gone", False),
        (301, "3xx", "retrying", False),
        (404, "4xx", "retrying", False),
        (429, "429", "retrying", False),
        (500, "5xx", "retrying", True),
        (599, "5xx", "retrying", True),
    ],
)
def test_what_an_answer_means(status: int, label: str, state: str, *, is_host_down: bool) -> None:
    error = None
    try:
        result = read_answer(Answered(status, {}, b""), "crm.example.org", now=NOW)
    except CallbackFailed as failed:
        result, error = failed.result, failed
    assert (result.label, result.state, error is not None and error.is_host_down) == (label, state, is_host_down)
    assert (error is None) == (state in ("delivered", "gone"))


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (OutboundTimeout("x"), "timeout"),
        (OutboundUnreachable("x"), "unreachable"),
        (OutboundUnknownHost("x"), "unknown_host"),
    ],
)
def test_what_no_answer_means(error: NoAnswer, label: str) -> None:
    failed = fail_without_answer(error)
    assert (failed.result.label, failed.is_host_down, failed.error_code) == (label, True, "CALLBACK_FAILED")


def test_a_url_that_is_refused_fails_for_good() -> None:
    result = DeliveryResult.of_error(OutboundRefused("x"))
    assert (result.label, result.state) == ("refused", "failed")


@pytest.mark.parametrize(
    ("wish", "wait_s"),
    [
        ("120", 120),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("soon", None),
        (f"Thu, 01 Jan {'9' * 20} 12:00:00 GMT", None),
    ],
)
def test_a_pause_that_a_receiver_asks_for_goes_along_with_the_error(wish: str, wait_s: float | None) -> None:
    with pytest.raises(CallbackFailed) as failed:
        read_answer(Answered(503, {"retry-after": wish}, b""), "h", now=NOW)
    assert failed.value.retry_after == (None if wait_s is None else timedelta(seconds=wait_s))


def test_every_wait_between_tries_is_a_rung_of_the_delay_ladder() -> None:
    assert set(RETRIES.waits) <= set(LADDER)


# The guards of hosts


def rules(parallel: int = 10, failures_to_open: int = 5) -> HostRules:
    return HostRules(parallel, replace(HostRules().breaker, failures_to_open=failures_to_open))


def hosts_of(rules: HostRules) -> Guard:
    return guard_hosts(rules, lambda: 0.0)


def to(host: str) -> Call:
    return Call(Deadline.after(timedelta(seconds=10)), host)


async def deliver(hosts: Guard, *, is_down: bool, pause: timedelta | None = None, host: str = "h") -> None:
    """One delivery, whose receiver answers or is down."""
    with suppress(CallbackFailed):
        async with hosts.enter(to(host)):
            if is_down or pause:
                result = DeliveryResult("x", "x", "retrying")
                raise CallbackFailed("x", result=result, is_host_down=is_down, retry_after=pause)


async def refusal(hosts: Guard) -> GuardWait:
    with pytest.raises(GuardWait) as refused:
        async with hosts.enter(to("h")):
            pytest.fail("it was let through")
    return refused.value


@pytest.mark.virtual_time()
async def test_a_host_is_closed_after_failures_in_a_row_and_then_gets_one_try() -> None:
    hosts = hosts_of(rules(failures_to_open=3))
    for _ in range(3):
        await deliver(hosts, is_down=True)
    refused = await refusal(hosts)
    assert (type(refused), refused.delay) == (HostDown, timedelta(seconds=30))
    await pass_time(timedelta(seconds=30))
    async with hosts.enter(to("h")):
        assert type(await refusal(hosts)) is HostDown
    await deliver(hosts, is_down=False)


@pytest.mark.virtual_time()
async def test_each_failed_try_doubles_the_wait_up_to_five_minutes_and_a_success_ends_it() -> None:
    hosts = hosts_of(rules(failures_to_open=1))
    waits = []
    for _ in range(6):
        await deliver(hosts, is_down=True)
        waits.append((await refusal(hosts)).delay.total_seconds())
        await pass_time(timedelta(seconds=waits[-1]))
    await deliver(hosts, is_down=False)
    await deliver(hosts, is_down=True)
    assert [*waits, (await refusal(hosts)).delay.total_seconds()] == [30, 60, 120, 240, 300, 300, 30]


@pytest.mark.virtual_time()
async def test_failures_that_a_success_interrupts_do_not_close_a_host() -> None:
    hosts = hosts_of(rules(failures_to_open=2))
    for _ in range(5):
        await deliver(hosts, is_down=True)
        await deliver(hosts, is_down=False)
    await deliver(hosts, is_down=True)


@pytest.mark.virtual_time()
async def test_stragglers_that_found_the_host_down_do_not_lengthen_its_wait() -> None:
    hosts = hosts_of(rules(failures_to_open=2))
    may_end = asyncio.Event()

    async def straggle() -> None:
        with suppress(CallbackFailed):
            async with hosts.enter(to("h")):
                await may_end.wait()
                raise CallbackFailed("x", result=DeliveryResult("x", "x", "retrying"), is_host_down=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(straggle())
        await run_ready()
        may_end.set()
    assert (await refusal(hosts)).delay == timedelta(seconds=30)


@pytest.mark.virtual_time()
async def test_a_cancelled_delivery_says_nothing_and_frees_its_place() -> None:
    hosts = hosts_of(rules(parallel=1, failures_to_open=1))
    with pytest.raises(asyncio.CancelledError):
        async with hosts.enter(to("h")):
            raise asyncio.CancelledError
    await deliver(hosts, is_down=False)


@pytest.mark.virtual_time()
async def test_deliveries_without_a_place_are_spread_over_the_time_that_the_host_needs() -> None:
    hosts = hosts_of(rules(parallel=2))
    async with hosts.enter(to("h")), hosts.enter(to("h")):
        refused = [await refusal(hosts) for _ in range(200)]
    delays = [wait.delay.total_seconds() for wait in refused]
    assert delays[:6] == [0.5, 1, 1.5, 2, 2.5, 3]  # two at a time, a second each until it is known better
    assert (max(delays), {type(wait) for wait in refused}) == (60, {HostBusy})


@pytest.mark.virtual_time()
async def test_a_pause_that_was_asked_for_holds_the_hosts_others_for_five_minutes_at_most() -> None:
    hosts = hosts_of(rules())
    await deliver(hosts, is_down=False, pause=timedelta(hours=2))
    assert (await refusal(hosts)).delay == timedelta(minutes=5)


@pytest.mark.virtual_time()
async def test_one_hosts_trouble_is_no_others() -> None:
    hosts = hosts_of(rules(failures_to_open=1))
    await deliver(hosts, is_down=True)
    async with hosts.enter(to("another")):
        pass


# The sender


class Silent:
    """A client that never hears anything."""

    def __init__(self) -> None:
        self.posted: list[Mapping[str, str]] = []
        self.deadlines: list[Deadline] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, deadline: Deadline) -> Answered:
        self.posted.append(headers)
        self.deadlines.append(deadline)
        raise OutboundTimeout("crm.example.org took too long to answer")


class NoStore:
    """A delivery log on a Redis that is down."""

    async def note_attempt(self, event: TaskCompleted, tried: CallbackAttempt) -> None:
        raise StoreUnavailable("Redis: ConnectionError")


def a_sender(client: Silent, rules: HostRules = HostRules()) -> CallbackSender:  # noqa: B008  # frozen
    return CallbackSender(
        client=client,
        signer=Signer([b"k" * 32]),
        bearer=Bearer("token", (HostRule.parse("crm.example.org"),)),
        hosts=hosts_of(rules),
        attempts=NoStore(),
        rules=CallbackRules(OutboundPolicy(), timedelta(seconds=10), must_be_signed=True),
        clock=LoopClock(NOW),
        metrics=Metrics(),
    )


def a_context(*, waited: timedelta = timedelta()) -> StageContext:
    return StageContext(Deadline.after(timedelta(seconds=60)), Attempt(1, waited), LoopClock(NOW))


async def test_a_redis_that_is_down_does_not_change_what_becomes_of_a_try() -> None:
    with pytest.raises(CallbackFailed):
        await a_sender(Silent()).send(an_end(), a_context())


@pytest.mark.parametrize(("left_s", "given_s"), [(60, 10), (3, 3)], ids=["the receiver's", "the delivery's"])
@pytest.mark.virtual_time()
async def test_the_earlier_of_two_deadlines_holds(left_s: float, given_s: float) -> None:
    client = Silent()
    sender = a_sender(client)
    with pytest.raises(CallbackFailed):
        await sender.send(an_end(), StageContext(Deadline.after(timedelta(seconds=left_s)), Attempt(1), LoopClock(NOW)))
    assert client.deadlines[0].remaining_s() == given_s


async def test_a_token_reaches_the_request_of_a_listed_host_only() -> None:
    client = Silent()
    sender = a_sender(client)
    for url in ("https://crm.example.org/hook", "https://other.example.org/hook"):
        with pytest.raises(CallbackFailed):
            await sender.send(an_end(callback_url=url), a_context())
    assert [headers.get("Authorization") for headers in client.posted] == ["Bearer token", None]


async def test_whoever_waited_a_day_for_a_turn_pays_with_attempts_so_that_it_ends() -> None:
    sender = a_sender(Silent(), rules(failures_to_open=1))
    with pytest.raises(CallbackFailed):
        await sender.send(an_end(), a_context())
    with pytest.raises(HostDown):
        await sender.send(an_end(), a_context(waited=timedelta(hours=23)))
    with pytest.raises(CallbackOverdue):
        await sender.send(an_end(), a_context(waited=timedelta(hours=24)))


class Kept:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[TaskCompleted] = []

    async def send(self, event: TaskCompleted, ctx: StageContext) -> None:
        self.sent.append(event)


async def test_a_result_goes_to_the_sender_of_its_channel_else_to_the_default_one() -> None:
    default, sms = Kept(), Kept()
    send = SendResult(default, {"sms": sms})
    for channel in ("whatsapp", "sms"):
        await send(an_end(channel=channel), a_context())
    assert [[event.channel for event in sender.sent] for sender in (default, sms)] == [["whatsapp"], ["sms"]]


# Names


async def test_a_name_is_looked_up_once_for_all_who_ask_at_the_same_time_and_anew_afterwards() -> None:
    asked: list[str] = []
    may_answer = asyncio.Event()

    async def slowly(host: str) -> Sequence[str]:
        asked.append(host)
        await may_answer.wait()
        return ["93.184.215.14"]

    resolve = SharedResolver(slowly)
    impatient = asyncio.ensure_future(resolve("a.example"))
    others = [asyncio.ensure_future(resolve("a.example")) for _ in range(5)]
    await run_ready()
    impatient.cancel()
    may_answer.set()
    assert await asyncio.gather(*others) == [["93.184.215.14"]] * 5
    await resolve("a.example")
    assert asked == ["a.example", "a.example"]


async def test_a_failed_lookup_fails_for_all_who_asked() -> None:
    async def unknown(host: str) -> Sequence[str]:
        await run_ready(1)
        raise OutboundUnknownHost(host)

    resolve = SharedResolver(unknown)
    found = await asyncio.gather(*(resolve("a.example") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [OutboundUnknownHost] * 3
