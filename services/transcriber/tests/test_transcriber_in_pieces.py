"""A recording recognised piece by piece: what waits for what, and what an error stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from eai_common.clock import Deadline
from eai_common.errors import Deferred
from eai_common.testing import run_ready
from eai_transcriber.errors import AudioUnsupported
from eai_transcriber.in_pieces import recognize_in_pieces
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript

pytestmark = pytest.mark.virtual_time


class Recording:
    """Pieces that are cut when asked for; it counts them."""

    def __init__(self, count: int, *, then: Exception | None = None) -> None:
        self.count = count
        self.then = then
        self.cut = 0

    async def __aiter__(self) -> AsyncIterator[Audio]:
        for number in range(self.count):
            self.cut += 1
            yield Audio(str(number).encode(), SoundFormat.FLAC, timedelta(seconds=1))
        if self.then is not None:
            raise self.then


class Listener:
    """Repeats what a piece says, as soon as it may."""

    accepts = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=55), 9_500_000)

    def __init__(self, *, refusals: dict[str, list[timedelta]] | None = None) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refusals = refusals or {}
        self.asked: list[str] = []
        self.cancelled = 0

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        piece = audio.content.decode()
        self.asked.append(piece)
        if self.refusals.get(piece):
            raise Deferred("no call is left for now", delay=self.refusals[piece].pop(0))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Transcript(piece)


async def heard(recording: Recording, listener: Listener, *, side_by_side: int = 2, within_s: float = 60) -> str:
    deadline = Deadline.after(timedelta(seconds=within_s))
    found = aiter(recording)
    return (await recognize_in_pieces(found, listener, side_by_side=side_by_side, deadline=deadline)).text


async def test_the_first_piece_is_recognised_while_the_next_is_cut_and_no_more_are_cut_than_needed() -> None:
    recording, listener = Recording(10), Listener()
    listener.may_answer.clear()
    call = asyncio.create_task(heard(recording, listener, side_by_side=2))
    await run_ready()
    assert (listener.asked, recording.cut) == (["0", "1"], 3)
    listener.may_answer.set()
    assert await call == "0 1 2 3 4 5 6 7 8 9"


async def test_a_recording_that_breaks_while_it_is_cut_stops_what_is_being_recognised() -> None:
    listener = Listener()
    listener.may_answer.clear()
    with pytest.raises(AudioUnsupported):
        await heard(Recording(2, then=AudioUnsupported("x")), listener)
    assert listener.cancelled == len(listener.asked)


async def test_a_message_whose_first_piece_must_wait_waits_outside_of_the_consumer() -> None:
    listener = Listener(refusals={"0": [timedelta(seconds=7)]})
    with pytest.raises(Deferred) as caught:
        await heard(Recording(3), listener)
    assert (caught.value.delay, listener.asked.count("0")) == (timedelta(seconds=7), 1)


async def test_a_later_piece_waits_here_because_the_earlier_ones_are_paid_for() -> None:
    listener = Listener(refusals={"2": [timedelta(seconds=20), timedelta(seconds=20)]})
    assert await heard(Recording(4), listener) == "0 1 2 3"
    assert sorted(listener.asked) == ["0", "1", "2", "2", "2", "3"]


async def test_a_wait_past_the_deadline_is_handed_on_as_it_is() -> None:
    listener = Listener(refusals={"1": [timedelta(seconds=40), timedelta(seconds=40)]})
    with pytest.raises(Deferred) as caught:
        await heard(Recording(2), listener, within_s=60)
    assert caught.value.delay == timedelta(seconds=40)
