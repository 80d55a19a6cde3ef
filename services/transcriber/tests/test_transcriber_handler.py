"""What the stage decides, with nothing real around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from eai_common.clock import Deadline
from eai_common.errors import Deferred, Permanent, Retriable, StageError
from eai_common.messages import MessageAudio
from eai_common.outbound import (
    Fetched,
    OutboundFailed,
    OutboundRefused,
    OutboundRejected,
    OutboundTimeout,
    OutboundTooLarge,
    OutboundUnknownHost,
    OutboundUnreachable,
)
from eai_common.stage import Attempt, StageContext
from eai_common.store import StoreUnavailable
from eai_common.testing import eventually, pass_time
from eai_transcriber.errors import (
    AudioNotUnderstood,
    RateLimited,
    TranscriptionUnavailable,
)
from eai_transcriber.fallback import FallbackRecognizer
from eai_transcriber.guarded import QuotaSpent, RecognizerDown
from eai_transcriber.handler import Limits, Transcribe
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript
from eai_transcriber.testing import encoded, silence
from eai_transcriber.workers import Workers

pytestmark = pytest.mark.virtual_time

ONE_SECOND = encoded(silence(1), "wav", "pcm_s16le")
TEN_PIECES = encoded(silence(8.5), "wav", "pcm_s16le")  # each is cut at 0.85 s, in the middle of a pause


class Downloads:
    """Gives one body, or fails with one error."""

    def __init__(self, body: bytes | Exception) -> None:
        self.body = body
        self.asked: list[tuple[str, float, int | None]] = []

    async def fetch(self, url: str, *, deadline: Deadline, max_bytes: int | None = None) -> Fetched:
        self.asked.append((url, deadline.remaining_s(), max_bytes))
        if isinstance(self.body, Exception):
            raise self.body
        return Fetched(self.body, "text/plain", url)


class Says:
    """A recogniser that answers the n-th piece from a list; a later piece sooner, so that order is not by chance."""

    def __init__(self, *answers: Transcript | Exception, longest: timedelta = timedelta(seconds=55)) -> None:
        self.answers = list(answers)
        self.accepts = AcceptedAudio(frozenset(SoundFormat), longest, 9_500_000)
        self.at_once = self.most_at_once = self.cancelled = self.asked = 0

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        number = self.asked
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await pass_time(timedelta(seconds=len(self.answers) - number))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        answer = self.answers[number]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture()
async def workers() -> AsyncIterator[Workers]:
    async with Workers(1) as pool:
        yield pool


def message(url: str = " https://media.example.org/a.ogg ") -> MessageAudio:
    return MessageAudio(
        message_id="0190b7a4-0000-7000-8000-000000000000",
        user_number="+5521999999999",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        message=url,
        previous_message="Olá!",
        metadata={"a": 1},
    )


async def test_the_words_and_the_confidence_follow_the_message(workers: Workers, ctx: StageContext) -> None:
    transcribe = Transcribe(Downloads(ONE_SECOND), Says(Transcript("bom dia", 0.9)), workers, Limits())
    after = await transcribe(message(), ctx)
    assert (after.transcript, after.confidence, after.message_type) == ("bom dia", 0.9, "audio")
    assert (after.previous_message, after.metadata) == ("Olá!", {"a": 1})


async def test_the_download_gets_its_own_limit_inside_the_deadline(workers: Workers, ctx: StageContext) -> None:
    downloads = Downloads(ONE_SECOND)
    limits = Limits(largest_bytes=1_000_000, download=timedelta(seconds=3))
    await Transcribe(downloads, Says(Transcript("a")), workers, limits)(message(), ctx)
    ((url, seconds, max_bytes),) = downloads.asked
    assert (url, max_bytes) == ("https://media.example.org/a.ogg", 1_000_000)
    assert 2 < seconds <= 3


@pytest.mark.parametrize(
    ("failure", "code", "kind"),
    [
        (OutboundRefused("x"), "AUDIO_URL_REFUSED", Permanent),
        (OutboundTooLarge("x"), "AUDIO_TOO_LARGE", Permanent),
        (OutboundRejected("x", status=404), "AUDIO_DOWNLOAD_FAILED", Permanent),
        (OutboundUnknownHost("x"), "AUDIO_DOWNLOAD_FAILED", Permanent),
        (OutboundFailed("x", status=503), "AUDIO_DOWNLOAD_FAILED", Retriable),
        (OutboundTimeout("x"), "AUDIO_DOWNLOAD_FAILED", Retriable),
        (OutboundUnreachable("x"), "AUDIO_DOWNLOAD_FAILED", Retriable),
    ],
)
async def test_a_failed_download_says_whether_trying_again_helps(
    workers: Workers, ctx: StageContext, failure: StageError, code: str, kind: type[StageError]
) -> None:
    with pytest.raises(kind) as caught:
        await Transcribe(Downloads(failure), Says(), workers, Limits())(message(), ctx)
    assert caught.value.error_code == code


async def test_the_wish_of_a_busy_media_server_is_handed_on(workers: Workers, ctx: StageContext) -> None:
    busy = OutboundFailed("x", status=503, retry_after=timedelta(seconds=9))
    with pytest.raises(Retriable) as caught:
        await Transcribe(Downloads(busy), Says(), workers, Limits())(message(), ctx)
    assert caught.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("answers", [[Transcript("")], [Transcript("", 0.4)]])
async def test_no_words_are_not_understood_and_never_replaced_by_others(
    workers: Workers, ctx: StageContext, answers: list[Transcript]
) -> None:
    with pytest.raises(AudioNotUnderstood):
        await Transcribe(Downloads(ONE_SECOND), Says(*answers), workers, Limits())(message(), ctx)


def long(*answers: Transcript | Exception) -> Says:
    return Says(*answers, longest=timedelta(seconds=1))


async def test_pieces_are_joined_in_their_order_whichever_is_heard_first(workers: Workers, ctx: StageContext) -> None:
    recognizer = long(*(Transcript(str(number)) for number in range(10)))
    after = await Transcribe(Downloads(TEN_PIECES), recognizer, workers, Limits())(message(), ctx)
    assert after.transcript == "0 1 2 3 4 5 6 7 8 9"


async def test_no_more_pieces_are_recognised_side_by_side_than_allowed(workers: Workers, ctx: StageContext) -> None:
    recognizer = long(*(Transcript(str(number)) for number in range(10)))
    await Transcribe(Downloads(TEN_PIECES), recognizer, workers, Limits(pieces_side_by_side=3))(message(), ctx)
    assert recognizer.most_at_once == 3


async def test_silent_pieces_leave_no_gap(workers: Workers, ctx: StageContext) -> None:
    recognizer = long(*(Transcript("a" if number in (0, 9) else "") for number in range(10)))
    after = await Transcribe(Downloads(TEN_PIECES), recognizer, workers, Limits())(message(), ctx)
    assert after.transcript == "a a"


async def test_one_failed_piece_stops_the_others_and_is_the_error(workers: Workers, ctx: StageContext) -> None:
    recognizer = long(*(Transcript("a") for _ in range(9)), RateLimited("x", retry_after=timedelta(seconds=5)))
    limits = Limits(pieces_side_by_side=10)
    with pytest.raises(RateLimited) as caught:
        await Transcribe(Downloads(TEN_PIECES), recognizer, workers, limits)(message(), ctx)
    assert (caught.value.retry_after, recognizer.cancelled) == (timedelta(seconds=5), 9)


async def test_cancelling_the_delivery_cancels_the_recognition(workers: Workers, ctx: StageContext) -> None:
    recognizer = Says(*(Transcript("a") for _ in range(500)))
    call = asyncio.create_task(Transcribe(Downloads(ONE_SECOND), recognizer, workers, Limits())(message(), ctx))
    await eventually(lambda: recognizer.asked)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert recognizer.cancelled == 1


def test_several_recognisers_take_what_each_of_them_takes() -> None:
    first, second = Says(), Says(longest=timedelta(seconds=10))
    first.accepts = AcceptedAudio(frozenset({SoundFormat.WAV_LINEAR16, SoundFormat.MP3}), timedelta(seconds=20), 5)
    assert FallbackRecognizer([first, second]).accepts == AcceptedAudio(first.accepts.formats, timedelta(seconds=10), 5)


@pytest.mark.parametrize(
    ("wait", "overdue"),
    [
        (RecognizerDown("x", delay=timedelta(seconds=7)), TranscriptionUnavailable),
        (QuotaSpent("x", delay=timedelta(seconds=7)), RateLimited),
    ],
)
async def test_waiting_for_a_recogniser_costs_no_attempt_until_it_has_waited_for_long(
    workers: Workers, ctx: StageContext, wait: Deferred, overdue: type[Retriable]
) -> None:
    transcribe = Transcribe(Downloads(ONE_SECOND), Says(wait, wait), workers, Limits(max_wait=timedelta(minutes=5)))
    patient = replace(ctx, attempt=Attempt(1, timedelta(seconds=299)))
    with pytest.raises(type(wait)):
        await transcribe(message(), patient)
    with pytest.raises(overdue) as caught:
        await transcribe(message(), replace(ctx, attempt=Attempt(1, timedelta(seconds=300))))
    assert caught.value.retry_after == timedelta(seconds=7)


async def test_an_outage_of_our_own_store_never_costs_an_attempt(workers: Workers, ctx: StageContext) -> None:
    gone = StoreUnavailable("x")
    with pytest.raises(StoreUnavailable):
        await Transcribe(Downloads(ONE_SECOND), Says(gone), workers, Limits(max_wait=timedelta()))(message(), ctx)
