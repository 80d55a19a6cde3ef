"""Opening a file that a stranger made: what it is, by its content, without letting it reach for anything else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from eai_transcriber.errors import AudioUnsupported
from eai_transcriber.recognizer import SoundFormat

__all__ = ["SAMPLE_RATES", "SoundFile", "open_sound"]

# FFmpeg also reads playlists and edit lists that name other files and URLs (HLS, DASH, concat, SDP): with those it
# would fetch what the guarded client refuses. So only plain containers, and no protocol beside the bytes handed over.
_DEMUXERS = "wav,w64,aiff,au,caf,flac,mp3,ogg,mov,matroska,aac,amr,amrnb,amrwb,asf"
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none", "probesize": "1000000"}
_CODECS = {
    *("aac", "aac_latm", "alac", "amrnb", "amrwb", "amr_nb", "amr_wb", "flac", "mp1", "mp2", "mp3", "mp3float", "opus"),
    *("vorbis", "wmapro", "wmav1", "wmav2", "wmavoice", "wmalossless", "adpcm_ima_wav", "adpcm_ms", "gsm", "gsm_ms"),
}
# Beyond them a header is broken; one sample at 1 Hz would become 16,000, and a packet of its own.
SAMPLE_RATES = range(4_000, 384_001)
_RECOGNISABLE = {
    ("wav", "pcm_s16le"): SoundFormat.WAV_LINEAR16,
    ("wav", "pcm_mulaw"): SoundFormat.WAV_MULAW,
    ("wav", "pcm_alaw"): SoundFormat.WAV_ALAW,
    ("flac", "flac"): SoundFormat.FLAC,
    ("mp3", "mp3"): SoundFormat.MP3,
    ("mp3", "mp3float"): SoundFormat.MP3,
    ("ogg", "opus"): SoundFormat.OGG_OPUS,
    ("webm", "opus"): SoundFormat.WEBM_OPUS,
    ("mp4", "aac"): SoundFormat.MP4_AAC,
    ("amr", "amrnb"): SoundFormat.AMR,
    ("amr", "amrwb"): SoundFormat.AMR_WB,
}


@dataclass(frozen=True, slots=True)
class SoundFile:
    """An open file with exactly one sound track that we look at."""

    container: InputContainer
    track: AudioStream
    sound_format: SoundFormat | None  # None: no recogniser reads it by itself

    @property
    def tick_s(self) -> float:
        """The unit of the packets' durations, in seconds."""
        return float(self.track.time_base or 1)


@contextmanager
def open_sound(content: bytes) -> Iterator[SoundFile]:
    """The file, open. Raises AudioUnsupported if it is not a sound recording of a kind that we know."""
    if not content:
        raise AudioUnsupported("the file is empty")
    try:
        container = av.open(io.BytesIO(content), mode="r", options=_OPTIONS, metadata_errors="ignore")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise AudioUnsupported(f"not a sound file of a known kind, {len(content)} bytes") from error
    with container:
        track = _only_sound(container)
        yield SoundFile(container, track, _sound_format(container, track, content))


def _only_sound(container: InputContainer) -> AudioStream:
    if any(not video.disposition & Disposition.attached_pic for video in container.streams.video):
        raise AudioUnsupported("a video, expected sound only")
    if not container.streams.audio:
        raise AudioUnsupported("the file has no sound track")
    track = container.streams.audio[0]
    context: AudioCodecContext | None = track.codec_context  # None for a codec that FFmpeg does not know
    codec = context.name if context else "unknown"
    if codec not in _CODECS and not codec.startswith("pcm_"):
        raise AudioUnsupported(f"the codec {codec} is not among those taken")
    if track.sample_rate not in SAMPLE_RATES:
        raise AudioUnsupported(f"a sample rate of {track.sample_rate} Hz, expected 4 to 384 kHz")
    return track


def _sound_format(container: InputContainer, track: AudioStream, content: bytes) -> SoundFormat | None:
    if track.channels != 1:  # a recogniser may listen to the first channel only
        return None
    names = container.format.name.split(",")
    if "webm" in names:
        kind = "webm" if b"webm" in content[:64] else "matroska"
    elif "mp4" in names:
        kind = "mp4" if not container.metadata.get("major_brand", "").startswith("3g") else "3gp"
    else:
        kind = names[0]
    return _RECOGNISABLE.get((kind, track.codec_context.name))
