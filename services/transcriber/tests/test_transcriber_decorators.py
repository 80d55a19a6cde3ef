"""What stands around a recogniser: memory, breaker, limit, and the next recogniser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from eai_common.clock import Deadline
from eai_common.errors import Deferred, StageError
from eai_common.guards import BreakerRules, BreakerState, CircuitBreaker, RateLimit, TimeLimit, Window
from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, SlidingWindow, StoreUnavailable, open_redis
from eai_common.telemetry import Metrics
from eai_common.testing import pass_time
from eai_transcriber.cached import CachedRecognizer
from eai_transcriber.errors import (
    AudioNotUnderstood,
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.fallback import FallbackRecognizer
from eai_transcriber.guarded import GuardedRecognizer, QuotaSpent, RecognizerDown, is_down
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript
from eai_transcriber.transcripts import KeptTranscript, TranscriptStore

PIECE = Audio(b"one", SoundFormat.FLAC, timedelta(seconds=1))
OTHER = Audio(b"two", SoundFormat.FLAC, timedelta(seconds=1))


class Says:
    """Answers from a list, the last one again and again; it takes its time."""

    accepts = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=55), 9_500_000)

    def __init__(self, *answers: Transcript | Exception, takes_s: float = 0) -> None:
        self.answers = list(answers)
        self.takes_s = takes_s
        self.asked: list[Audio] = []
        self.time_given_s: list[float] = []

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        self.asked.append(audio)
        self.time_given_s.append(deadline.remaining_s())
        if self.takes_s:
            await pass_time(timedelta(seconds=min(self.takes_s, deadline.remaining_s())))
            if self.takes_s > self.time_given_s[-1]:
                raise ProviderTimeout("x")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture()
async def store(redis_server: Any) -> AsyncIterator[RedisClient]:
    async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as client:
        await client.driver.flushdb()
        yield client


def within(seconds: float) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


def remembering(recognizer: Says, store: RedisClient, *, variant: str = "google long pt-BR") -> CachedRecognizer:
    return CachedRecognizer(recognizer, TranscriptStore(store, timedelta(minutes=1)), variant=variant)


async def test_the_same_audio_is_not_asked_about_twice(store: RedisClient) -> None:
    recognizer = Says(Transcript("bom dia", 0.8))
    heard = [await remembering(recognizer, store).transcribe(PIECE, deadline=within(9)) for _ in range(3)]
    assert (heard, len(recognizer.asked)) == ([Transcript("bom dia", 0.8)] * 3, 1)


async def test_other_audio_or_another_way_of_asking_is_something_else(store: RedisClient) -> None:
    recognizer = Says(Transcript("bom dia"))
    await remembering(recognizer, store).transcribe(PIECE, deadline=within(9))
    await remembering(recognizer, store).transcribe(OTHER, deadline=within(9))
    await remembering(recognizer, store, variant="google short pt-BR").transcribe(PIECE, deadline=within(9))
    assert len(recognizer.asked) == 3


async def test_an_error_and_silence_are_not_remembered(store: RedisClient) -> None:
    recognizer = Says(TranscriptionUnavailable("x"), Transcript(""), Transcript("bom dia"))
    remembered = remembering(recognizer, store)
    with pytest.raises(TranscriptionUnavailable):
        await remembered.transcribe(PIECE, deadline=within(9))
    assert [(await remembered.transcribe(PIECE, deadline=within(9))).text for _ in range(2)] == ["", "bom dia"]


async def test_what_is_kept_ends_by_itself_and_shows_nothing_of_the_audio_or_the_user(store: RedisClient) -> None:
    await remembering(Says(Transcript("bom dia")), store).transcribe(PIECE, deadline=within(9))
    (key,) = await store.driver.keys("*")
    assert 0 < await store.driver.pttl(key) <= 60_000
    assert re.fullmatch(r"transcript:\{[0-9a-f]{64}\}", key.decode() if isinstance(key, bytes) else key)


async def test_what_another_version_kept_in_another_way_is_asked_anew(store: RedisClient) -> None:
    transcripts = TranscriptStore(store, timedelta(minutes=1))
    await store.driver.set("transcript:{d}", b"\xff not ours")
    assert await transcripts.get("d") is None
    await transcripts.put("d", KeptTranscript("olá", None))
    assert await transcripts.get("d") == KeptTranscript("olá", None)


async def test_without_the_store_the_recogniser_is_asked() -> None:
    class Gone:
        async def get(self, digest: str) -> KeptTranscript | None:
            raise StoreUnavailable("x")

        async def put(self, digest: str, transcript: KeptTranscript) -> None:
            raise StoreUnavailable("x")

    recognizer = CachedRecognizer(Says(Transcript("bom dia")), Gone(), variant="")
    assert (await recognizer.transcribe(PIECE, deadline=within(9))).text == "bom dia"


def limited(
    recognizer: Says, store: RedisClient, *, limit: int = 2, provider: str = "google_speech"
) -> GuardedRecognizer:
    window = Window(limit, timedelta(minutes=1))
    limit_calls = RateLimit(provider, window, SlidingWindow(store), refusal=QuotaSpent, random=lambda: 0.5)
    return GuardedRecognizer(recognizer, [limit_calls], count_call=lambda: None)


async def test_beyond_the_limit_of_all_replicas_a_message_is_deferred_and_nobody_asked(store: RedisClient) -> None:
    recognizer = Says(Transcript("a"))
    replicas = [limited(recognizer, store), limited(recognizer, store)]
    for replica in replicas:
        await replica.transcribe(PIECE, deadline=within(9))
    with pytest.raises(QuotaSpent) as caught:
        await replicas[0].transcribe(PIECE, deadline=within(9))
    assert len(recognizer.asked) == 2
    assert timedelta(seconds=50) < caught.value.delay < timedelta(seconds=63)
    assert isinstance(caught.value, Deferred)


async def test_each_provider_has_a_limit_of_its_own(store: RedisClient) -> None:
    recognizer = Says(Transcript("a"))
    await limited(recognizer, store, limit=1).transcribe(PIECE, deadline=within(9))
    await limited(recognizer, store, limit=1, provider="openai_speech").transcribe(PIECE, deadline=within(9))
    assert len(recognizer.asked) == 2


def breaker() -> CircuitBreaker:
    rules = BreakerRules(failures_to_open=3, open_for=timedelta(seconds=10), probes=1)
    return CircuitBreaker("s", rules, judge=is_down, refusal=RecognizerDown, random=lambda: 0.0, metrics=Metrics())


def guarded(recognizer: Says, breaker: CircuitBreaker, *, longest_s: float = 60) -> GuardedRecognizer:
    time_limit = TimeLimit("s", timedelta(seconds=longest_s), ProviderTimeout)
    return GuardedRecognizer(recognizer, [time_limit, breaker], count_call=lambda: None)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TranscriptionUnavailable("x"), True),
        (ProviderTimeout("x"), True),
        (TranscriptionError("x"), False),
        (ProviderMisconfigured("x"), False),
        (RateLimited("x"), None),
        (QuotaSpent("x", delay=timedelta()), None),
        (StoreUnavailable("x"), None),
        (RuntimeError("x"), None),
    ],
)
def test_what_an_error_says_about_the_provider(error: Exception, verdict: bool | None) -> None:
    assert is_down(error) is verdict


@pytest.mark.virtual_time()
async def test_a_recogniser_that_is_down_is_left_alone_and_found_again() -> None:
    recognizer = Says(*[TranscriptionUnavailable("x")] * 3, Transcript("a"))
    call = guarded(recognizer, breaker())
    for _ in range(3):
        with pytest.raises(TranscriptionUnavailable):
            await call.transcribe(PIECE, deadline=within(9))
    with pytest.raises(RecognizerDown) as caught:
        await call.transcribe(PIECE, deadline=within(9))
    assert len(recognizer.asked) == 3
    await pass_time(caught.value.delay)
    assert (await call.transcribe(PIECE, deadline=within(9))).text == "a"


@pytest.mark.virtual_time()
async def test_a_call_gets_no_more_than_its_time_and_never_more_than_the_deadline() -> None:
    recognizer = Says(Transcript("a"))
    call = guarded(recognizer, breaker(), longest_s=20)
    await call.transcribe(PIECE, deadline=within(300))
    await call.transcribe(PIECE, deadline=within(7))
    assert recognizer.time_given_s == [20, 7]


@pytest.mark.virtual_time()
async def test_a_deadline_that_has_passed_teaches_the_breaker_nothing() -> None:
    recognizer, watched = Says(Transcript("a")), breaker()
    for _ in range(5):
        with pytest.raises(ProviderTimeout):
            await guarded(recognizer, watched).transcribe(PIECE, deadline=within(0))
    assert (watched.state, recognizer.asked) == (BreakerState.CLOSED, [])


@pytest.mark.virtual_time()
async def test_the_wait_that_a_provider_asks_one_call_for_holds_for_the_others() -> None:
    recognizer = Says(RateLimited("x", retry_after=timedelta(seconds=30)), Transcript("a"))
    call = guarded(recognizer, breaker())
    with pytest.raises(RateLimited):
        await call.transcribe(PIECE, deadline=within(99))
    with pytest.raises(RecognizerDown) as caught:
        await call.transcribe(PIECE, deadline=within(99))
    assert (caught.value.delay, len(recognizer.asked)) == (timedelta(seconds=30), 1)


def deferred() -> Deferred:
    return QuotaSpent("x", delay=timedelta(seconds=5))


def unavailable() -> StageError:
    return TranscriptionUnavailable("x")


def misconfigured() -> StageError:
    return ProviderMisconfigured("x")


@pytest.mark.parametrize("failure", [deferred, unavailable, misconfigured, lambda: RateLimited("x")])
async def test_the_next_recogniser_is_asked_when_the_first_cannot_help(failure: Callable[[], StageError]) -> None:
    both = FallbackRecognizer([Says(failure()), Says(Transcript("second"))])
    assert (await both.transcribe(PIECE, deadline=within(9))).text == "second"


@pytest.mark.virtual_time()
async def test_a_slow_recogniser_leaves_the_next_its_share_of_the_time() -> None:
    slow, quick = Says(Transcript("late"), takes_s=1000), Says(Transcript("a"), takes_s=1)
    both = FallbackRecognizer([slow, quick])
    assert (await both.transcribe(PIECE, deadline=within(60))).text == "a"
    assert (slow.time_given_s, quick.time_given_s) == ([30], [30])


@pytest.mark.parametrize("refusal", [TranscriptionError("x"), AudioNotUnderstood("x")])
async def test_an_error_about_the_audio_is_final(refusal: StageError) -> None:
    second = Says(Transcript("second"))
    with pytest.raises(type(refusal)):
        await FallbackRecognizer([Says(refusal), second]).transcribe(PIECE, deadline=within(9))
    assert second.asked == []


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ([unavailable, deferred], QuotaSpent),
        ([deferred, misconfigured], QuotaSpent),
        ([misconfigured, unavailable], TranscriptionUnavailable),
        ([unavailable, misconfigured], TranscriptionUnavailable),
        ([misconfigured, misconfigured], ProviderMisconfigured),
    ],
)
async def test_when_none_can_help_the_error_with_the_best_way_out_is_raised(
    failures: list[Callable[[], StageError]], raised: type[StageError]
) -> None:
    with pytest.raises(raised):
        await FallbackRecognizer([Says(failure()) for failure in failures]).transcribe(PIECE, deadline=within(9))
