"""Cuts a voice message into pieces that a recogniser accepts. Plain CPU work: it runs in a worker thread."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import av
import av.error
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from eai_transcriber.container import SAMPLE_RATES, SoundFile, open_sound
from eai_transcriber.errors import AudioTooLong, AudioUnsupported
from eai_transcriber.pauses import find_quietest_point
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat
from eai_transcriber.workers import Stop

__all__ = ["cut_into_pieces"]

SAMPLE_RATE = 16_000  # what speech models are trained on; more adds size, not words
_SAMPLE_BYTES = 2
_MOST_PACKETS = 1_000_000  # 600 s in Opus' shortest packets are 240,000
_PADDING = timedelta(seconds=0.5)  # encoders add silence at both ends: what was 600 s of speech must stay allowed
_SEARCH_S = 15  # how far back from the longest piece a pause is looked for


def cut_into_pieces(content: bytes, accepted: AcceptedAudio, longest: timedelta, stop: Stop) -> Iterator[Audio]:
    """Yield the recording in `accepted` pieces, in order; joined they are the whole, no sample lost or doubled.

    A file that fits is not converted. Of the others a piece is decoded when it is asked for, so that no more of the
    sound is in memory than the caller wants. Raises AudioUnsupported, or AudioTooLong for more than `longest`; both
    before the first piece, except for a file whose packets have no duration.
    """
    with open_sound(content) as sound:
        whole = Audio(content, sound.sound_format or SoundFormat.WAV_LINEAR16, _measure(sound, longest, stop))
        goes_as_it_is = sound.sound_format in accepted.formats and _fits(whole, accepted)
    if goes_as_it_is:
        yield whole
        return
    with open_sound(content) as sound:  # anew: measuring has read it to the end
        yield from _cut(_decode(sound, stop), accepted, longest)


def _fits(whole: Audio, accepted: AcceptedAudio) -> bool:
    return timedelta() < whole.duration <= accepted.longest and len(whole.content) <= accepted.largest_bytes


def _measure(sound: SoundFile, longest: timedelta, stop: Stop) -> timedelta:
    """How long the packets last, whatever a header claims. Raises AudioTooLong as soon as it is more than `longest`."""
    most_ticks = (longest + _PADDING).total_seconds() / sound.tick_s
    ticks = 0  # whole numbers: a sum of seconds drifts, and comes out a hair too short just where it matters
    for packet in _packets(sound, stop):
        ticks += packet.duration or 0
        if ticks > most_ticks:
            raise _too_long(longest)
    return timedelta(seconds=ticks * sound.tick_s)


def _packets(sound: SoundFile, stop: Stop) -> Iterator[Packet[AudioStream]]:
    """The track's packets; a file that breaks off ends there. Raises AudioUnsupported for absurdly many."""
    packets = sound.container.demux(sound.track)
    for _ in range(_MOST_PACKETS):
        stop.check()
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet
    raise AudioUnsupported("the file is made of too many packets")


def _decode(sound: SoundFile, stop: Stop) -> Iterator[bytes]:
    """The sound as 16-bit mono samples at 16 kHz; packets that cannot be decoded are left out."""
    resample = _Resampler()
    for packet in _packets(sound, stop):
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                yield resample(frame)
    with suppress(av.error.FFmpegError):
        yield resample.rest()


class _Resampler:
    """Changes to 16 kHz mono; begins anew when a broken or spliced file changes its rate or layout midway.

    It takes a second of sound at a time: packet by packet, calling it would cost as much as decoding.
    """

    def __init__(self) -> None:
        self._kind: tuple[object, ...] | None = None
        self._resampler: AudioResampler | None = None
        self._waiting = AudioFifo()

    def __call__(self, frame: AudioFrame) -> bytes:
        if frame.sample_rate not in SAMPLE_RATES:
            return b""
        before = b""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if kind != self._kind:
            before = self.rest()
            self._kind, self._waiting = kind, AudioFifo()
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        frame.pts = None  # count samples, not the file's opinion of the time
        self._waiting.write(frame)
        return before + self._resample() if self._waiting.samples >= frame.sample_rate else before

    def rest(self) -> bytes:
        """What is still inside."""
        return self._resample() + _join_samples(self._resampler.resample(None)) if self._resampler else b""

    def _resample(self) -> bytes:
        frame = self._waiting.read()
        return _join_samples(self._resampler.resample(frame)) if self._resampler and frame else b""


def _join_samples(frames: list[AudioFrame]) -> bytes:
    return b"".join(bytes(frame.planes[0])[: frame.samples * _SAMPLE_BYTES] for frame in frames)


def _cut(decoded: Iterator[bytes], accepted: AcceptedAudio, longest: timedelta) -> Iterator[Audio]:
    most_bytes = _limit_piece(accepted)
    waiting = bytearray()
    seen_bytes = 0
    for samples in decoded:
        seen_bytes += len(samples)
        if _duration(seen_bytes) > longest + _PADDING:
            raise _too_long(longest)
        waiting += samples
        while len(waiting) > most_bytes:
            end = _find_cut(waiting, most_bytes)
            yield _encode_wav(bytes(waiting[:end]))
            del waiting[:end]
    if not seen_bytes:
        raise AudioUnsupported("the file holds no sound that can be decoded")
    if waiting:
        yield _encode_wav(bytes(waiting))


def _limit_piece(accepted: AcceptedAudio) -> int:
    by_time = int(accepted.longest.total_seconds() * SAMPLE_RATE) * _SAMPLE_BYTES
    by_size = (accepted.largest_bytes - 1024) // _SAMPLE_BYTES * _SAMPLE_BYTES  # the header is smaller than that
    return min(by_time, by_size)


def _find_cut(waiting: bytearray, most_bytes: int) -> int:
    search_from = max(most_bytes - _SEARCH_S * SAMPLE_RATE * _SAMPLE_BYTES, most_bytes // 2 // _SAMPLE_BYTES * 2)
    with memoryview(waiting) as view, view[search_from:most_bytes].cast("h") as samples:
        return search_from + find_quietest_point(samples, SAMPLE_RATE) * _SAMPLE_BYTES


def _encode_wav(samples: bytes) -> Audio:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(_SAMPLE_BYTES)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(samples)
    return Audio(file.getvalue(), SoundFormat.WAV_LINEAR16, _duration(len(samples)))


def _duration(size_bytes: int) -> timedelta:
    return timedelta(seconds=size_bytes / _SAMPLE_BYTES / SAMPLE_RATE)


def _too_long(longest: timedelta) -> AudioTooLong:
    return AudioTooLong(f"longer than {longest.total_seconds():g} s")
