"""What stands between the stage and a provider: who passes, who waits, for how long, and who answers instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, PartialReply, Turn, await_answer
from eai_agent_router.agent_engine import Engines
from eai_agent_router.errors import (
    AgentBadRequest,
    AgentBadResponse,
    AgentInputTooLong,
    AgentNotFound,
    AgentRateLimited,
    AgentRefused,
    AgentTimeout,
    AgentUnauthorized,
    AgentUnavailable,
)
from eai_agent_router.guards import (
    FallbackAgent,
    GuardResources,
    GuardSettings,
    ProviderBusy,
    ProviderDown,
    ProviderLimited,
    ProviderWait,
    RetriesSpent,
    engine_targets,
    guard_agent,
    is_down,
    provider_guards,
)
from eai_common.clock import Deadline
from eai_common.errors import Deferred, Retriable, StageError, Unavailable
from eai_common.guards import (
    Bulkhead,
    GuardsByTarget,
    Measure,
    RateLimit,
    RetryBudget,
    Taken,
    TimeLimit,
    Window,
    WindowState,
    enforce_max_wait,
)
from eai_common.replies import AssistantMessage, UsageStatistics
from eai_common.settings import SettingsError
from eai_common.telemetry import Metrics, collect_line
from eai_common.testing import eventually, pass_time, run_ready

pytestmark = pytest.mark.virtual_time

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ANSWER = Answer((AssistantMessage(id="a", content="Olá!"), UsageStatistics(total_tokens=3)), "agent")
FAILURES: tuple[Exception, ...] = (AgentUnavailable("down"), AgentTimeout("slow"), AgentUnauthorized("key"))


@dataclass
class FakeAgent(Agent):
    """Answers, hangs or fails as it is told."""

    failure: Exception | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Turn] = field(default_factory=list)
    remembered: list[History] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        self.asked.append(turn)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return ANSWER

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        self.remembered.append(history)
        return None


@dataclass
class FakeLimiter:
    """Has so many places; the next one is free after `frees_in`."""

    places: int = 1_000_000
    frees_in: timedelta = timedelta(seconds=12)
    failure: Exception | None = None
    taken: int = 0

    async def take(self, subject: str, windows: Sequence[Window]) -> Taken:
        if self.failure is not None:
            raise self.failure
        is_allowed = self.taken < self.places
        self.taken += is_allowed
        left = self.places - self.taken
        return Taken(is_allowed, tuple(WindowState(window, left, self.frees_in) for window in windows))


class Scene:
    """One guarded agent."""

    def __init__(
        self,
        *,
        parallel: int = 2,
        max_queued: int = 0,
        random: float = 0.0,
        limit: int = 100,
        **settings: object,
    ) -> None:
        self.agent = FakeAgent()
        self.limiter = FakeLimiter()
        self.metrics = Metrics()
        self.resources = GuardResources(
            settings=GuardSettings.model_validate(settings),
            limiter=self.limiter,
            random=lambda: random,
            metrics=self.metrics,
            parallel=parallel,
            max_queued=max_queued,
        )
        self.limit = limit
        self.guarded = self.guard(self.agent)

    def guard(self, agent: Agent) -> Agent:
        return guard_agent(
            agent,
            "google_agent_engine",
            engine_targets("google_agent_engine"),
            self.resources,
            calls_a_minute=self.limit,
        )

    async def ask(self, attempt: int = 1) -> Answer:
        return await ask(self.guarded, attempt=attempt)

    async def wait_of(self, kind: type[ProviderWait], attempt: int = 1) -> timedelta:
        with pytest.raises(kind) as caught:
            await self.ask(attempt)
        return caught.value.delay

    async def fail(self, times: int, failure: Exception = FAILURES[0]) -> None:
        self.agent.failure = failure
        for _ in range(times):
            with suppress(StageError):
                await self.ask()
        self.agent.failure = None


async def ask(agent: Agent, *, attempt: int = 1, engine: str | None = None) -> Answer:
    turn = Turn("id", "+5521999999999", "Oi", reasoning_engine_id=engine, attempt=attempt)
    return await agent.ask(turn, deadline=Deadline.after(MINUTE))


def a_history() -> History:
    return History("id", "+5521999999999", ())


# --- the order -------------------------------------------------------------------------------------------------------


async def test_the_guards_have_an_order() -> None:
    order = [type(guard) for guard in provider_guards("google_agent_engine", Scene().resources, calls_a_minute=1)]
    assert order == [RetryBudget, Bulkhead, TimeLimit, GuardsByTarget, RateLimit, Measure]


async def test_a_retry_that_is_one_too_many_takes_no_place() -> None:
    scene = Scene(parallel=1)
    for _ in range(20):
        await scene.ask(attempt=2)
    scene.agent.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(scene.ask())
        await eventually(lambda: len(scene.agent.asked) == 21)
        await scene.wait_of(RetriesSpent, attempt=2)
        scene.agent.may_answer.set()
    assert under_way.result() is ANSWER


async def test_the_log_line_of_a_delivery_names_the_provider_and_the_time_of_its_calls() -> None:
    scene = Scene()
    scene.agent.may_answer.clear()
    asyncio.get_running_loop().call_later(2.5, scene.agent.may_answer.set)
    with collect_line() as line:
        await scene.ask()
        await scene.ask()
    assert line == {"ai_provider": "google_agent_engine", "agent_ms": 2500.0}


async def test_who_stood_in_line_sees_that_the_provider_went_down_meanwhile() -> None:
    scene = Scene(parallel=1, max_queued=1, agent_breaker_failures=1)
    scene.agent.may_answer.clear()
    scene.agent.failure = AgentTimeout("slow")
    first = asyncio.create_task(scene.ask())
    await eventually(lambda: len(scene.agent.asked) == 1)
    second = asyncio.create_task(scene.ask())
    await run_ready()
    scene.agent.may_answer.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["AgentTimeout", "ProviderDown"]


async def test_who_finds_the_provider_down_uses_up_nothing_of_the_limit() -> None:
    scene = Scene(agent_breaker_failures=1)
    await scene.fail(1)
    await scene.wait_of(ProviderDown)
    assert scene.limiter.taken == 1


async def test_a_history_passes_the_same_guards() -> None:
    scene = Scene()
    scene.limiter.places = 0
    with pytest.raises(ProviderLimited):
        await scene.guarded.remember(a_history(), deadline=Deadline.after(MINUTE))
    assert scene.agent.remembered == []


# --- the bulkhead ----------------------------------------------------------------------------------------------------


async def test_a_provider_that_hangs_takes_no_more_than_its_places() -> None:
    scene = Scene(parallel=2)
    scene.agent.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(scene.ask())
        await eventually(lambda: len(scene.agent.asked) == 2)
        for _ in range(10):
            await scene.wait_of(ProviderBusy)
        other = FakeAgent()
        assert await ask(scene.guard(other)) is ANSWER  # behind guards of its own, as another provider is
        scene.agent.may_answer.set()


async def test_those_sent_away_come_back_one_after_the_other() -> None:
    scene = Scene(parallel=2)
    scene.agent.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(scene.ask())
        await eventually(lambda: len(scene.agent.asked) == 2)
        waits = [(await scene.wait_of(ProviderBusy)).total_seconds() for _ in range(4)]
        scene.agent.may_answer.set()
    assert waits == [0.5, 1.0, 1.5, 2.0]


async def test_who_stands_in_line_gets_the_next_place() -> None:
    scene = Scene(parallel=1, max_queued=1)
    scene.agent.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(scene.ask())
        await eventually(lambda: len(scene.agent.asked) == 1)
        await scene.wait_of(ProviderBusy)  # the line is full
        scene.agent.may_answer.set()
    assert len(scene.agent.asked) == 2


async def test_who_stands_in_line_for_long_is_sent_away_and_the_line_has_room_again() -> None:
    scene = Scene(parallel=1, max_queued=1)
    scene.agent.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.ask())
        await eventually(lambda: len(scene.agent.asked) == 1)
        await scene.wait_of(ProviderBusy)
        await scene.wait_of(ProviderBusy)
        scene.agent.may_answer.set()
    assert await scene.ask() is ANSWER


@pytest.mark.parametrize("failure", [AgentUnavailable("down"), AgentRefused("no"), asyncio.CancelledError()])
async def test_a_turn_that_ends_gives_its_place_back_however_it_ends(failure: BaseException) -> None:
    scene = Scene(parallel=1)
    scene.agent.failure = failure  # type: ignore[assignment]  # a cancellation is no Exception, and is raised all the same
    with pytest.raises(type(failure)):
        await scene.ask()
    scene.agent.failure = None
    assert await scene.ask() is ANSWER


# --- breakers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_failures_in_a_row_leave_the_provider_alone(failure: Exception) -> None:
    scene = Scene(agent_breaker_failures=3, random=0.5)
    await scene.fail(3, failure)
    assert await scene.wait_of(ProviderDown) == timedelta(seconds=15)
    assert len(scene.agent.asked) == 3


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AgentTimeout("x"), True),
        (AgentUnavailable("x"), True),
        (AgentUnauthorized("x"), True),
        (AgentRefused("x"), False),
        (AgentBadRequest("x"), False),
        (AgentInputTooLong("x"), False),
        (AgentNotFound("x"), False),
        (AgentBadResponse("x"), False),
        (AgentRateLimited("x"), None),
        (Unavailable("no redis"), None),
        (ProviderLimited("x", delay=SECOND), None),
        (KeyError("our bug"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_shows_whether_the_provider_is_down(error: Exception, verdict: bool | None) -> None:
    assert is_down(error) is verdict


async def test_once_it_answers_probes_everybody_passes_again() -> None:
    scene = Scene(agent_breaker_failures=1, agent_breaker_probes=2)
    await scene.fail(1)
    await pass_time(10 * SECOND)
    for _ in range(2 + 5):
        await scene.ask()
    state = scene.metrics.registry.get_sample_value(
        "circuit_breaker_state", {"service": "google_agent_engine", "state": "closed"}
    )
    assert state == 1


@pytest.mark.parametrize("error", [AgentRateLimited, AgentUnavailable])
async def test_a_provider_that_asks_for_a_pause_gets_it_from_everybody(error: type[Retriable]) -> None:
    scene = Scene()
    scene.agent.failure = error("later", retry_after=timedelta(seconds=7))
    with pytest.raises(error):
        await scene.ask()
    assert await scene.wait_of(ProviderDown) == timedelta(seconds=7)


ENGINES = Engines("p", "us-central1", "1", frozenset({"2"}))


@pytest.mark.parametrize(
    ("requested", "name"),
    [
        (None, "google"),
        ("1", "google"),
        ("projects/p/locations/us-central1/reasoningEngines/1", "google"),
        ("2", "google/2"),
        ("projects/p/locations/us-central1/reasoningEngines/2", "google/2"),
        ("3", "google/other"),
        ("99999999", "google/other"),
        ("../secrets", "google"),
    ],
)
def test_an_engine_that_a_message_names_has_a_breaker_of_its_own_with_a_bounded_name(
    requested: str | None, name: str
) -> None:
    assert engine_targets("google", ENGINES)(requested) == name


async def test_a_broken_engine_that_clients_name_does_not_close_the_providers_own() -> None:
    scene = Scene(agent_breaker_failures=1)
    agent = guard_agent(
        scene.agent,
        "google_agent_engine",
        engine_targets("google_agent_engine", ENGINES),
        scene.resources,
        calls_a_minute=0,
    )
    scene.agent.failure = AgentUnavailable("does not start")
    with suppress(AgentUnavailable):
        await ask(agent, engine="3")
    scene.agent.failure = None
    with pytest.raises(ProviderDown):
        await ask(agent, engine="4")
    assert await ask(agent) is ANSWER


# --- the limit -------------------------------------------------------------------------------------------------------


async def test_over_the_limit_a_message_waits_until_a_place_is_free_and_each_a_little_longer() -> None:
    scene = Scene(limit=61)
    scene.limiter.places = 1
    await scene.ask()
    assert [await scene.wait_of(ProviderLimited) for _ in range(3)] == [12 * SECOND, 13 * SECOND, 14 * SECOND]
    assert len(scene.agent.asked) == 1


async def test_without_a_limit_nobody_asks_for_a_place() -> None:
    scene = Scene(limit=0)
    await scene.ask()
    assert scene.limiter.taken == 0


async def test_without_redis_no_call_is_made_that_nobody_counts() -> None:
    scene = Scene()
    scene.limiter.failure = Unavailable("no redis")
    with pytest.raises(Unavailable):
        await scene.ask()
    assert scene.agent.asked == []


# --- the retry budget ------------------------------------------------------------------------------------------------


async def test_retries_are_a_share_of_first_tries() -> None:
    scene = Scene(agent_retry_share=0.25)
    made = await _retries_until_spent(scene)
    for _ in range(8):
        await scene.ask()
    assert (made, await _retries_until_spent(scene)) == (20, 2)


async def test_a_few_retries_a_minute_are_made_in_any_case() -> None:
    scene = Scene(agent_retry_share=0)
    await _retries_until_spent(scene)
    await pass_time(MINUTE)
    assert await _retries_until_spent(scene) == 10


@pytest.mark.parametrize(("random", "waits_s"), [(0.0, 10), (1.0, 30)])
async def test_a_retry_that_is_one_too_many_comes_back_later(random: float, waits_s: int) -> None:
    scene = Scene(random=random)
    await _retries_until_spent(scene)
    assert await scene.wait_of(RetriesSpent, attempt=3) == timedelta(seconds=waits_s)


async def _retries_until_spent(scene: Scene) -> int:
    before = len(scene.agent.asked)
    with suppress(RetriesSpent):
        while True:
            await scene.ask(attempt=2)
    return len(scene.agent.asked) - before


# --- max wait --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "overdue"),
    [
        (ProviderDown, AgentUnavailable),
        (ProviderBusy, AgentUnavailable),
        (RetriesSpent, AgentUnavailable),
        (ProviderLimited, AgentRateLimited),
    ],
)
async def test_a_message_that_has_waited_for_long_pays_with_tries(
    wait: type[ProviderWait], overdue: type[Retriable]
) -> None:
    error = wait("not now", delay=SECOND)
    with pytest.raises(wait), enforce_max_wait(MINUTE, waited=MINUTE - SECOND):
        raise error
    with pytest.raises(overdue) as caught, enforce_max_wait(MINUTE, waited=MINUTE):
        raise error
    assert caught.value.retry_after == SECOND


async def test_our_own_outage_never_costs_a_try() -> None:
    with pytest.raises(Deferred), enforce_max_wait(MINUTE, waited=MINUTE):
        raise Unavailable("no redis")


# --- fallback --------------------------------------------------------------------------------------------------------


class Chain:
    """A first provider that fails as told, and a second one."""

    def __init__(self, failure: Exception | None, second_failure: Exception | None = None) -> None:
        self.first, self.second = FakeAgent(failure), FakeAgent(second_failure)
        self.metrics = Metrics()
        chain = [("google_agent_engine", self.first), ("openai", self.second)]
        self.agent = FallbackAgent(chain, last_attempt=6, metrics=self.metrics)

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.first.asked), len(self.second.asked)


@pytest.mark.parametrize(
    "failure",
    [ProviderDown("open", delay=SECOND), AgentUnauthorized("key"), AgentNotFound("no such engine")],
    ids=lambda error: type(error).__name__,
)
async def test_the_next_answers_when_the_first_is_out_of_reach(failure: Exception) -> None:
    chain = Chain(failure)
    assert await ask(chain.agent) is ANSWER
    assert chain.asked == (1, 1)
    labels = {"service": "google_agent_engine", "instead": "openai"}
    assert chain.metrics.registry.get_sample_value("agent_fallbacks_total", labels) == 1


@pytest.mark.parametrize(
    "failure",
    [
        AgentRefused("safety"),
        AgentInputTooLong("long"),
        AgentBadRequest("bad"),
        AgentBadResponse("odd"),
        AgentTimeout("it may still answer"),
        AgentUnavailable("it may be the moment"),
        AgentRateLimited("later"),
        ProviderBusy("full", delay=SECOND),
        ProviderLimited("full", delay=SECOND),
        Unavailable("no redis"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_first_said_or_may_yet_say_goes_to_nobody_else(failure: Exception) -> None:
    chain = Chain(failure)
    with pytest.raises(type(failure)):
        await ask(chain.agent)
    assert chain.asked == (1, 0)


@pytest.mark.parametrize(("attempt", "asked"), [(1, (1, 0)), (5, (1, 0)), (6, (0, 1)), (7, (0, 1))])
async def test_the_last_try_belongs_to_the_next(attempt: int, asked: tuple[int, int]) -> None:
    chain = Chain(None)
    await ask(chain.agent, attempt=attempt)
    assert chain.asked == asked


async def test_a_first_try_that_is_the_last_one_too_belongs_to_the_first() -> None:
    first, second = FakeAgent(), FakeAgent()
    agent = FallbackAgent([("a", first), ("b", second)], last_attempt=1, metrics=Metrics())
    await ask(agent)
    assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_what_the_next_says_is_the_last_word() -> None:
    chain = Chain(ProviderDown("open", delay=SECOND), AgentRefused("safety"))
    with pytest.raises(AgentRefused):
        await ask(chain.agent)


@pytest.mark.parametrize("attempt", [1, 6])
async def test_a_message_that_names_an_engine_goes_to_no_other_provider(attempt: int) -> None:
    chain = Chain(ProviderDown("open", delay=SECOND))
    with pytest.raises(ProviderDown):
        await ask(chain.agent, attempt=attempt, engine="7")
    assert chain.asked == (1, 0)


async def test_a_history_goes_to_the_first_only() -> None:
    chain = Chain(None)
    await chain.agent.remember(a_history(), deadline=Deadline.after(MINUTE))
    assert (len(chain.first.remembered), len(chain.second.remembered)) == (1, 0)


# --- streams ---------------------------------------------------------------------------------------------------------


@dataclass
class StreamingAgent(FakeAgent):
    """Shows its words one after the other, and then fails or answers."""

    words: Sequence[str] = ("Ol", "á!")

    async def stream(self, turn: Turn, *, deadline: Deadline) -> AsyncGenerator[PartialReply | Answer, None]:
        for word in self.words:
            yield PartialReply(word)
        yield await self.ask(turn, deadline=deadline)


def a_stream(agent: Agent, engine: str | None = None) -> AsyncGenerator[PartialReply | Answer, None]:
    turn = Turn("id", "+5521999999999", "Oi", reasoning_engine_id=engine)
    return agent.stream(turn, deadline=Deadline.after(MINUTE))


async def test_a_stream_passes_all_guards_word_by_word_and_its_answer_is_the_same() -> None:
    scene = Scene(parallel=1)
    agent = scene.guard(StreamingAgent())
    fallback = FallbackAgent([("google_agent_engine", agent)], last_attempt=6, metrics=scene.metrics)
    seen = [part async for part in a_stream(fallback)]
    assert seen == [PartialReply("Ol"), PartialReply("á!"), ANSWER]
    assert await ask(fallback) is ANSWER
    assert scene.limiter.taken == 2


async def test_a_turn_holds_its_place_until_its_stream_ends_however_it_ends() -> None:
    scene = Scene(parallel=1)
    agent = scene.guard(StreamingAgent())
    stream = a_stream(agent)
    assert await anext(stream) == PartialReply("Ol")
    with pytest.raises(ProviderBusy):
        await ask(agent)
    await stream.aclose()
    assert await ask(agent) is ANSWER


@pytest.mark.parametrize(("words", "asked"), [((), (1, 1)), (("Ol",), (1, 0))], ids=["no word", "a word"])
async def test_once_words_were_shown_no_other_agent_is_asked(words: Sequence[str], asked: tuple[int, int]) -> None:
    first, second = StreamingAgent(AgentNotFound("gone"), words=words), FakeAgent()
    agent = FallbackAgent([("a", first), ("b", second)], last_attempt=6, metrics=Metrics())
    with suppress(AgentNotFound):
        await await_answer(a_stream(agent))
    assert (len(first.asked), len(second.asked)) == asked


async def test_a_stream_without_an_answer_is_a_bad_response() -> None:
    async def words() -> AsyncGenerator[PartialReply | Answer, None]:
        yield PartialReply("Olá")

    with pytest.raises(AgentBadResponse, match="ended without an answer"):
        await await_answer(words())


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_fallback_that_is_no_provider_is_refused_with_what_it_takes() -> None:
    with pytest.raises(SettingsError, match=r'AGENT_FALLBACK: got "openai,chatgpt", takes a list .* openai'):
        GuardSettings.read({"AGENT_FALLBACK": "openai,chatgpt"})


async def test_the_inbox_is_told_when_all_guards_have_let_the_call_pass_and_before_it_is_made() -> None:
    scene, told = Scene(), list[int]()

    async def before_asking() -> None:
        told.append(len(scene.agent.asked))

    turn = Turn("m", "+5521999990000", "Oi", before_asking=before_asking)
    await scene.guarded.ask(turn, deadline=Deadline.after(timedelta(seconds=10)))
    assert (told, len(scene.agent.asked)) == ([0], 1)
