"""What becomes of the bytes of a voice message: passed on, converted, cut, or refused."""

from __future__ import annotations

import asyncio
import io
import os
import random
import struct
import threading
import time
import wave
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from eai_common.testing import eventually, wait_until
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.errors import AudioTooLong, AudioUnsupported
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat
from eai_transcriber.testing import encoded, silence
from eai_transcriber.workers import Stop, Stopped, Workers

GOOGLE = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=55), 9_500_000)
LONGEST = timedelta(seconds=600)

AS_IT_IS = {
    "WAV 16 bit": (("wav", "pcm_s16le", 16_000), SoundFormat.WAV_LINEAR16),
    "WAV mu-law": (("wav", "pcm_mulaw", 8_000), SoundFormat.WAV_MULAW),
    "WAV A-law": (("wav", "pcm_alaw", 8_000), SoundFormat.WAV_ALAW),
    "MP3": (("mp3", "libmp3lame", 44_100), SoundFormat.MP3),
    "FLAC": (("flac", "flac", 16_000), SoundFormat.FLAC),
    "OGG Opus": (("ogg", "libopus", 48_000), SoundFormat.OGG_OPUS),
    "Opus": (("opus", "libopus", 48_000), SoundFormat.OGG_OPUS),
    "M4A AAC": (("ipod", "aac", 44_100), SoundFormat.MP4_AAC),
    "MP4 AAC": (("mp4", "aac", 44_100), SoundFormat.MP4_AAC),
    "MOV AAC": (("mov", "aac", 44_100), SoundFormat.MP4_AAC),
    "WebM Opus": (("webm", "libopus", 48_000), SoundFormat.WEBM_OPUS),
    "AMR": (("amr", "libopencore_amrnb", 8_000), SoundFormat.AMR),
}
CONVERTED = {
    "WAV float": ("wav", "pcm_f32le", 16_000),
    "WAV 8 bit": ("wav", "pcm_u8", 8_000),
    "WAV 24 bit": ("wav", "pcm_s24le", 48_000),
    "raw AAC": ("adts", "aac", 44_100),
    "WMA": ("asf", "wmav2", 44_100),
    "AIFF": ("aiff", "pcm_s16be", 44_100),
    "CAF": ("caf", "pcm_s16le", 16_000),
    "AU": ("au", "pcm_s16be", 16_000),
    "ALAC": ("mp4", "alac", 44_100),
    "Matroska Opus": ("matroska", "libopus", 48_000),
    "3GP AMR": ("3gp", "libopencore_amrnb", 8_000),
    "3GP AAC": ("3gp", "aac", 16_000),
}
EVERY_FORMAT = {**{name: kind for name, (kind, _) in AS_IT_IS.items()}, **CONVERTED}


def cut(content: bytes, *, accepts: AcceptedAudio = GOOGLE, longest: timedelta = LONGEST) -> list[Audio]:
    return list(cut_into_pieces(content, accepts, longest, Stop()))


def file_of(kind: tuple[str, str, int], samples: bytes, *, layout: str = "mono") -> bytes:
    container, codec, rate = kind
    return encoded(samples, container, codec, rate=rate, layout=layout, bit_rate=12_200 if "amr" in codec else 64_000)


async def all_of(found: AsyncIterator[Audio]) -> list[Audio]:
    return [piece async for piece in found]


def samples_of(audio: Audio) -> bytes:
    with wave.open(io.BytesIO(audio.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return bytes(file.readframes(file.getnframes()))


@pytest.mark.parametrize(("kind", "sound_format"), AS_IT_IS.values(), ids=AS_IT_IS.keys())
def test_what_the_recogniser_reads_by_itself_goes_as_it_is(
    kind: tuple[str, str, int], sound_format: SoundFormat, recording: bytes
) -> None:
    content = file_of(kind, recording)
    (only,) = cut(content)
    assert (only.content, only.sound_format) == (content, sound_format)


@pytest.mark.parametrize("kind", CONVERTED.values(), ids=CONVERTED.keys())
def test_everything_else_becomes_16_khz_mono_linear16(kind: tuple[str, str, int], recording: bytes) -> None:
    (only,) = cut(file_of(kind, recording))
    assert len(samples_of(only)) / 32_000 == pytest.approx(len(recording) / 32_000, abs=0.15)


def test_vorbis_is_converted(recording: bytes) -> None:
    (only,) = cut(file_of(("ogg", "vorbis", 44_100), recording, layout="stereo"))
    assert only.sound_format is SoundFormat.WAV_LINEAR16


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
def test_the_duration_is_measured_not_believed(kind: tuple[str, str, int], recording: bytes) -> None:
    (only,) = cut(file_of(kind, recording))
    assert only.duration.total_seconds() == pytest.approx(len(recording) / 32_000, abs=0.15)


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
@pytest.mark.parametrize("excess_s", [0.2, 1.3])
def test_a_recording_a_little_longer_than_one_call_takes_is_cut(kind: tuple[str, str, int], excess_s: float) -> None:
    short = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=2), 9_500_000)
    found = cut(file_of(kind, talk(4, [])[: int((2 + excess_s) * 16_000) * 2]), accepts=short)
    assert len(found) > 1
    assert all(piece.duration <= short.longest for piece in found)


def test_a_lying_header_changes_nothing(recording: bytes) -> None:
    content = bytearray(file_of(AS_IT_IS["WAV 16 bit"][0], recording))
    data = content.index(b"data")
    content[data + 4 : data + 8] = struct.pack("<I", 0xFFFFFFF0)
    (only,) = cut(bytes(content))
    assert only.duration.total_seconds() == pytest.approx(len(recording) / 32_000, abs=0.15)


def test_stereo_is_mixed_so_that_the_second_channel_is_heard_too(recording: bytes) -> None:
    (only,) = cut(file_of(("wav", "pcm_s16le", 16_000), recording, layout="stereo"))
    assert len(samples_of(only)) == pytest.approx(len(recording), abs=100)


def test_a_file_too_large_for_one_call_is_converted(recording: bytes) -> None:
    content = file_of(("wav", "pcm_s16le", 48_000), recording)
    small = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=55), len(content) - 1)
    assert all(len(piece.content) <= small.largest_bytes for piece in cut(content, accepts=small))


def talk(seconds: float, pauses_at: list[float]) -> bytes:
    """Noise, with 400 ms of near silence around each point."""
    randomness = random.Random(7)
    loud = [randomness.randint(-8000, 8000) for _ in range(16_000)]
    quiet = [sample // 400 for sample in loud]
    chosen = bytearray()
    for tenth in range(int(seconds * 10)):
        is_pause = any(abs(tenth / 10 + 0.05 - at) < 0.2 for at in pauses_at)
        part = (quiet if is_pause else loud)[tenth % 10 * 1600 :][:1600]
        chosen += struct.pack("<1600h", *part)
    return bytes(chosen)


def test_a_long_recording_is_cut_in_its_pauses_and_nothing_is_lost_or_doubled() -> None:
    spoken = talk(130, [47.0, 93.0])
    found = cut(encoded(spoken, "wav", "pcm_s16le"))
    ends = [0.0, *(piece.duration.total_seconds() for piece in found)]
    assert b"".join(map(samples_of, found)) == spoken
    assert [pytest.approx(47, abs=0.2), pytest.approx(46, abs=0.4)] == ends[1:3]


def test_without_any_pause_pieces_are_still_short_enough() -> None:
    spoken = talk(130, [])
    found = cut(encoded(spoken, "wav", "pcm_s16le"))
    assert b"".join(map(samples_of, found)) == spoken
    assert all(piece.duration <= GOOGLE.longest for piece in found)


def test_silence_is_cut_into_as_few_pieces_as_possible() -> None:
    assert len(cut(encoded(silence(160), "wav", "pcm_s16le"))) == 3


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
def test_more_sound_than_is_allowed_is_too_long_before_anything_is_recognised(kind: tuple[str, str, int]) -> None:
    short = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=2), 9_500_000)
    with pytest.raises(AudioTooLong, match="10 s"):
        next(cut_into_pieces(file_of(kind, silence(12)), short, timedelta(seconds=10), Stop()))


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
def test_what_an_encoder_adds_to_the_longest_recording_does_not_make_it_too_long(kind: tuple[str, str, int]) -> None:
    short = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=2), 9_500_000)
    assert cut(file_of(kind, silence(10)), accepts=short, longest=timedelta(seconds=10))


@pytest.mark.parametrize("kind", [EVERY_FORMAT["MP3"], EVERY_FORMAT["raw AAC"]], ids=["as it is", "converted"])
def test_eight_hours_in_a_small_file_are_found_out_early(kind: tuple[str, str, int]) -> None:
    container, codec, _ = kind
    a_minute = encoded(silence(60), container, codec, rate=8000, bit_rate=8000)
    started = time.monotonic()
    with pytest.raises(AudioTooLong):
        cut(a_minute * 60 * 8)
    assert time.monotonic() - started < 10


def video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", b"\0" * 1_000_000)
    return file.getvalue()


def png() -> bytes:
    return bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )


NOT_AUDIO = {
    "nothing": b"",
    "one byte": b"\0",
    "zeros": bytes(100_000),
    "noise": random.Random(1).randbytes(100_000),
    "a page": b"<!DOCTYPE html><html><body>Not found</body></html>" * 100,
    "JSON": b'{"error":"not found"}',
    "text": "Olá, tudo bem? ".encode() * 1000,
    "a picture": png(),
    "a GIF": b"GIF89a" + bytes(1000),
    "a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000),
    "a PDF": b"%PDF-1.7\n" + bytes(1000),
    "a ZIP": zip_bomb(),
    "a WAV without sound": encoded(b"", "wav", "pcm_s16le"),
    "a WAV's first 20 bytes": encoded(silence(1), "wav", "pcm_s16le")[:20],
    "an Ogg's first page": encoded(silence(1), "ogg", "libopus", rate=48_000)[:47],
}


@pytest.mark.parametrize("content", NOT_AUDIO.values(), ids=NOT_AUDIO.keys())
def test_what_is_no_recording_is_unsupported(content: bytes) -> None:
    with pytest.raises(AudioUnsupported):
        cut(content)


@pytest.mark.parametrize("rate", [0, 1, 3999, 384_001, 0x7FFFFFFF])
def test_an_absurd_sample_rate_is_unsupported_and_costs_no_memory(rate: int) -> None:
    content = bytearray(encoded(silence(60), "au", "pcm_s16be"))
    content[16:20] = struct.pack(">I", rate)
    with pytest.raises(AudioUnsupported):
        cut(bytes(content))


def test_a_video_is_unsupported() -> None:
    with pytest.raises(AudioUnsupported, match="video"):
        cut(video())


async def test_a_playlist_in_place_of_audio_makes_nobody_fetch_what_it_names(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1000))
        writer.close()

    secret = tmp_path / "inside.wav"
    await asyncio.to_thread(secret.write_bytes, encoded(silence(1), "wav", "pcm_s16le"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.wav"
    for named in (url, str(secret), f"file:{secret}", f"concat:{secret}|{secret}"):
        for playlist in (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{named}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{named}'\n",
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {url} RTP/AVP 0\n",
            f'<?xml version="1.0"?><MPD><Period><BaseURL>{named}</BaseURL></Period></MPD>',
        ):
            with pytest.raises(AudioUnsupported):
                await asyncio.to_thread(cut, playlist.encode())
    server.close()
    assert asked == []


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
def test_corrupted_anywhere_it_is_an_error_or_a_recording_and_no_file_stays_open(
    kind: tuple[str, str, int], recording: bytes
) -> None:
    content = file_of(kind, recording[: 32_000 // 2])
    randomness = random.Random(str(kind))
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        broken = bytearray(content)
        place = randomness.randrange(len(broken))
        length = randomness.choice([1, 4, 64])
        broken[place : place + length] = randomness.randbytes(length)
        with suppress(AudioUnsupported, AudioTooLong):
            assert cut(bytes(broken))
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("kind", EVERY_FORMAT.values(), ids=EVERY_FORMAT.keys())
def test_cut_off_anywhere_it_is_an_error_or_what_came_before(kind: tuple[str, str, int], recording: bytes) -> None:
    content = file_of(kind, recording[: 32_000 * 2])
    for percent in range(0, 100, 7):
        try:
            heard = sum(piece.duration.total_seconds() for piece in cut(content[: len(content) * percent // 100]))
            assert heard < 2.2
        except AudioUnsupported:
            pass


def test_work_that_nobody_waits_for_stops() -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(Stopped):
        next(cut_into_pieces(encoded(silence(1), "ogg", "libopus", rate=48_000), GOOGLE, LONGEST, stop))


class Endless:
    """Work that ends only when it is told to."""

    def __init__(self) -> None:
        self.began = threading.Event()

    def __call__(self, stop: Stop) -> None:
        self.began.set()
        wait_until(lambda: stop.check(), within_s=60)


async def test_a_cancelled_call_frees_its_thread() -> None:
    work = Endless()
    async with Workers(1) as workers:
        call = asyncio.create_task(workers.run(work))
        await eventually(work.began.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.wait_for(workers.run(lambda _: "free"), 2) == "free"


async def test_closing_the_workers_ends_what_still_runs() -> None:
    work = Endless()
    async with Workers(1) as workers:
        call = asyncio.create_task(workers.run(work))
        await eventually(work.began.is_set)
    with pytest.raises(Stopped):
        await call


async def test_the_event_loop_does_not_stall_while_ten_files_are_converted(stalls: list[float]) -> None:
    content = encoded(talk(30, []), "adts", "aac", rate=44_100)
    stalls.clear()
    await eventually(lambda: stalls)
    stalls.clear()  # making the recording was one
    async with Workers(2) as workers:
        work = partial(cut_into_pieces, content, GOOGLE, LONGEST)
        found = await asyncio.gather(*(all_of(workers.each(work)) for _ in range(10)))
    assert {len(each) for each in found} == {1}
    assert max(stalls) < 0.25  # the aim is 0.05, and the benchmark holds it; here the machine may be busy
