"""The whole handler as it is wired, with a real download and the sandbox's recogniser really listening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eai_common.messages import MessageAudio
from eai_common.stage import StageContext
from eai_common.store import open_memory_redis
from eai_common.telemetry import Metrics
from eai_common.testing import RANDOM
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.errors import AudioNotUnderstood, AudioUnsupported, AudioUrlRefused
from eai_transcriber.recognizer import AcceptedAudio
from eai_transcriber.settings import AudioSettings, SpeechSettings
from eai_transcriber.testing import encoded, silence
from eai_transcriber.wiring import open_transcriber
from eai_transcriber.workers import Stop

CONVERTED = AcceptedAudio(frozenset(), timedelta(seconds=55), 9_500_000)

FORMATS = {
    "WAV": ("wav", "pcm_s16le", 16_000, "mono"),
    "WAV float": ("wav", "pcm_f32le", 16_000, "mono"),
    "WAV mu-law": ("wav", "pcm_mulaw", 8_000, "mono"),
    "MP3": ("mp3", "libmp3lame", 44_100, "mono"),
    "FLAC": ("flac", "flac", 16_000, "mono"),
    "OGG Opus": ("ogg", "libopus", 48_000, "mono"),
    "OGG Vorbis": ("ogg", "vorbis", 44_100, "stereo"),
    "Opus": ("opus", "libopus", 48_000, "mono"),
    "M4A AAC": ("ipod", "aac", 44_100, "mono"),
    "raw AAC": ("adts", "aac", 44_100, "mono"),
    "WebM": ("webm", "libopus", 48_000, "mono"),
    "AMR": ("amr", "libopencore_amrnb", 8_000, "mono"),
    "WMA": ("asf", "wmav2", 44_100, "mono"),
}
# Synthesised, and of the sentences that were tried the one that the sandbox's recogniser hears at 8 kHz as well.
PASSPORT = Path(__file__).parent / "recordings" / "passport.flac"


class Media:
    """A web server with one file."""

    url = ""
    body = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.body)}\r\nContent-Type: text/html\r\n\r\n"
        writer.write(head.encode() + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def media_server() -> AsyncIterator[Media]:
    media = Media()
    server = await asyncio.start_server(media.serve, "127.0.0.1", 0)
    media.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/voice"
    try:
        yield media
    finally:
        server.close()
        await server.wait_closed()


def message(url: str) -> MessageAudio:
    return MessageAudio(
        message_id="0190b7a4-0000-7000-8000-000000000000",
        user_number="+5521999999999",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        message=url,
    )


async def words(sandbox: Any, ctx: StageContext, body: bytes, *, networks: str = "127.0.0.0/8") -> str:
    audio = AudioSettings.read({"TRANSCRIBE_ALLOWED_NETWORKS": networks})
    speech = SpeechSettings.read({"SPEECH_ENDPOINT": sandbox.grpc_target})
    assert isinstance(audio, AudioSettings)
    assert isinstance(speech, SpeechSettings)
    async with (
        media_server() as media,
        open_memory_redis() as redis,
        open_transcriber(audio, speech, redis=redis, random=RANDOM, metrics=Metrics()) as transcribe,
    ):
        media.body = body
        return (await transcribe(message(media.url), ctx)).transcript


async def test_every_format_gives_the_same_words(sandbox: Any, ctx: StageContext) -> None:
    (whole,) = cut_into_pieces(await asyncio.to_thread(PASSPORT.read_bytes), CONVERTED, timedelta(seconds=60), Stop())
    samples = whole.content[44:]
    files = (
        encoded(samples, *kind, rate=rate, layout=layout, bit_rate=12_200 if "amr" in kind[1] else 96_000)
        for *kind, rate, layout in FORMATS.values()
    )
    found = await asyncio.gather(*(words(sandbox, ctx, file) for file in files))
    assert dict(zip(FORMATS, found, strict=True)) == dict.fromkeys(FORMATS, "where can i get a new passport")


async def test_a_long_recording_loses_and_doubles_no_words_at_its_seams(
    sandbox: Any, ctx: StageContext, recording: bytes
) -> None:
    times = 8  # 67 seconds
    heard = await words(sandbox, ctx, encoded((recording + silence(6)) * times, "ogg", "libopus", rate=48_000))
    assert heard == " ".join(["today is monday"] * times)


async def test_silence_is_not_understood(sandbox: Any, ctx: StageContext) -> None:
    with pytest.raises(AudioNotUnderstood):
        await words(sandbox, ctx, encoded(silence(2), "ogg", "libopus", rate=48_000))


async def test_a_page_is_unsupported_and_nobody_is_asked(sandbox: Any, ctx: StageContext) -> None:
    before = await sandbox.calls()
    with pytest.raises(AudioUnsupported):
        await words(sandbox, ctx, b"<html>" * 1000)
    assert await sandbox.calls() == before


async def test_a_url_that_leads_inside_is_refused(sandbox: Any, ctx: StageContext) -> None:
    with pytest.raises(AudioUrlRefused):
        await words(sandbox, ctx, b"", networks="")
