"""Decodes any audio file to 16 kHz mono samples and finds the speech in them; runs in the worker process only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.audio.frame import AudioFrame
from pocketsphinx import Segmenter

__all__ = [
    "BYTES_PER_SECOND",
    "SAMPLE_RATE",
    "AudioTooLong",
    "Speech",
    "Undecodable",
    "decode",
    "from_linear16",
    "speech_in",
]

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 2

# The containers that Google's automatic decoding takes, in FFmpeg's names (source: AutoDetectDecodingConfig in
# cloud_speech.proto). Raw ADTS AAC and WMA are not among them, so they are refused here too; FFmpeg could read them.
_CONTAINERS = frozenset({"wav", "flac", "mp3", "ogg", "amr", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})

_PAUSE_S = 0.8  # a longer one ends a result, as in Google's long models
_MARGIN_S = 0.3  # without it, the voice detector cuts words short


class Undecodable(Exception):
    """Not audio, in a container that is not accepted, or without sound."""


class AudioTooLong(Exception):
    """Longer than the limit; found while decoding, so that a small file of many hours costs no more than that."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A stretch of speech."""

    samples: bytes
    end_s: float  # from the start of the whole audio


def decode(content: bytes, *, limit_s: float) -> bytes:
    """The samples, signed 16 bit. Raises Undecodable or AudioTooLong."""
    samples = bytearray()
    try:
        with av.open(io.BytesIO(content), mode="r", metadata_errors="ignore") as container:
            if container.format.name not in _CONTAINERS:
                raise Undecodable(f"container {container.format.name} is not one that is decoded automatically")
            if not container.streams.audio:
                raise Undecodable("no audio stream")
            for chunk in _resampled(container.decode(container.streams.audio[0])):
                samples += chunk
                if len(samples) > limit_s * BYTES_PER_SECOND:
                    raise AudioTooLong
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable(str(error)) from error
    if not samples:
        raise Undecodable("no samples")
    return bytes(samples)


def from_linear16(content: bytes, *, rate: int, channels: int, limit_s: float) -> bytes:
    """The samples of headerless LINEAR16 audio. Raises Undecodable or AudioTooLong."""
    if len(content) > limit_s * rate * channels * 2:
        raise AudioTooLong
    usable = len(content) // (2 * channels) * 2 * channels
    if not usable:
        raise Undecodable("no samples")
    frame = AudioFrame(format="s16", layout="mono" if channels == 1 else "stereo", samples=usable // (2 * channels))
    frame.sample_rate = rate
    frame.planes[0].update(content[:usable].ljust(frame.planes[0].buffer_size, b"\0"))
    return b"".join(_resampled(iter([frame])))


def speech_in(samples: bytes) -> Iterator[Speech]:
    """The speech between long pauses, with a margin; nothing for silence."""
    for start_s, end_s in _joined(samples):
        first = max(0, round((start_s - _MARGIN_S) * SAMPLE_RATE)) * 2
        last = round((end_s + _MARGIN_S) * SAMPLE_RATE) * 2
        yield Speech(samples[first:last], min(end_s, len(samples) / BYTES_PER_SECOND))


def _joined(samples: bytes) -> Iterator[tuple[float, float]]:
    start_s: float | None = None
    end_s = 0.0
    for segment in Segmenter(sample_rate=SAMPLE_RATE).segment(io.BytesIO(samples)):
        if start_s is None:
            start_s = segment.start_time
        elif segment.start_time - end_s > _PAUSE_S:
            yield start_s, end_s
            start_s = segment.start_time
        end_s = segment.end_time
    if start_s is not None:
        yield start_s, end_s


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[bytes]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    for frame in frames:
        yield from _bytes_of(resampler.resample(frame))
    yield from _bytes_of(resampler.resample(None))


def _bytes_of(frames: list[AudioFrame]) -> Iterator[bytes]:
    for frame in frames:
        yield bytes(frame.planes[0])[: frame.samples * 2]  # a plane is padded beyond its samples
