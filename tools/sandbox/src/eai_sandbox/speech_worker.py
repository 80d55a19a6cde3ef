"""One recogniser in a process of its own: `python -m eai_sandbox.speech_worker`.

It is a process because pocketsphinx holds the interpreter lock while it works (0.5 s for 3 s of speech): in a thread it
would block the event loop. It reads jobs from stdin, writes one line of JSON for each to stdout, and ends when stdin
ends, so that no worker outlives a killed parent.

A job is one line of JSON, `{"size": bytes, "limit_s": 60, "linear16": [rate, channels] or null}`, and then the audio.
"""

from __future__ import annotations

import json
import os
import sys
from typing import BinaryIO

from pocketsphinx import Decoder

from eai_sandbox import audio

__all__ = ["main"]

_DECODER = {
    "loglevel": "FATAL",
    "cmn": "batch",  # an answer does not depend on the one before
    # A narrower search halves the CPU; on the human recordings of pocketsphinx' own tests it hears the same words.
    "maxhmmpf": 3000,
    "maxwpf": 10,
}


def main() -> int:
    """Serve jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's output must not mix with the answers
    decoder: Decoder | None = None
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        content = _read_exactly(sys.stdin.buffer, job["size"])
        decoder = decoder or Decoder(**_DECODER)
        answers.write(json.dumps(_recognise(decoder, content, job)).encode() + b"\n")
        answers.flush()
    return 0


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        sys.exit(0)  # the parent died in the middle
    return content


def _recognise(decoder: Decoder, content: bytes, job: dict[str, object]) -> dict[str, object]:
    try:
        samples = _samples_of(content, job)
    except audio.Undecodable as error:
        return {"error": "undecodable", "text": str(error)}
    except audio.AudioTooLong:
        return {"error": "too_long", "text": "audio is longer than the limit"}
    segments = [_listen(decoder, speech) for speech in audio.speech_in(samples)]
    return {"duration_s": len(samples) / audio.BYTES_PER_SECOND, "segments": [one for one in segments if one["text"]]}


def _samples_of(content: bytes, job: dict[str, object]) -> bytes:
    limit_s, linear16 = job["limit_s"], job["linear16"]
    assert isinstance(limit_s, int | float)
    if isinstance(linear16, list):
        rate, channels = linear16
        return audio.from_linear16(content, rate=rate, channels=channels, limit_s=limit_s)
    return audio.decode(content, limit_s=limit_s)


def _listen(decoder: Decoder, speech: audio.Speech) -> dict[str, object]:
    decoder.start_utt()
    decoder.process_raw(speech.samples, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    probabilities = [min(1.0, word.prob) for word in decoder.seg() or () if not word.word.startswith(("<", "["))]
    return {
        "text": hypothesis.hypstr if hypothesis else "",
        "confidence": sum(probabilities) / len(probabilities) if probabilities else 0.0,
        "end_s": speech.end_s,
    }


if __name__ == "__main__":
    sys.exit(main())
