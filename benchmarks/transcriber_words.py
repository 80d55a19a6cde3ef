"""Whether cutting costs words: ten minutes of speech as one voice message, against its sentences heard alone, as JSON.

    .venv/bin/python benchmarks/transcriber_words.py [--minutes 10]

Needs espeak-ng (Debian: `apt-get install espeak-ng`), which speaks the sentences; without it nothing is measured. The
recogniser is the sandbox's, which really listens, and understands about three words of four of such a voice. So the
figure is the difference of two word error rates, of the same recogniser on the same speech: `alone`, each sentence a
file of its own, is the baseline; `joined` is what the transcriber makes of all of them in one Opus file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Any

import uvloop

from eai_cli.sandbox_process import started_sandbox
from eai_common.clock import Deadline, SystemClock
from eai_transcriber.audio import pieces
from eai_transcriber.google_speech import GoogleSpeechOptions, open_google_speech
from eai_transcriber.in_pieces import recognize_in_pieces
from eai_transcriber.recognizer import Audio, Recognizer, SoundFormat, Takes
from eai_transcriber.testing import encoded, silence
from eai_transcriber.workers import Stop, Workers

SENTENCES = (
    "where can i get a new passport",
    "today is monday",
    "when is the next train to the city",
    "i would like to speak with a doctor",
    "how much does it cost",
    "what time does the office open",
    "the street light in front of my house is broken",
    "i need a copy of my birth certificate",
    "the water is very cold today",
    "please send someone to help me",
    "my father is seventy years old",
    "can you tell me where the hospital is",
    "there is a big hole in the road",
    "how do i pay my taxes",
    "i have lost my wallet and my keys",
    "the children go to school in the morning",
    "we have been waiting for two hours",
    "is the park open on sunday",
    "thank you very much for your help",
    "the bus did not come this morning",
)
PAUSES_S = (0.35, 0.5, 0.8, 1.2)
CONVERTS = Takes(frozenset(), timedelta(seconds=55), 9_500_000)
LONGEST = timedelta(minutes=30)


def main() -> int:
    """Measure and print. Exits with 1 if cutting costs more than two points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print(json.dumps({"benchmark": "transcriber_words", "skipped": "espeak-ng is not installed"}))
        return 0
    with started_sandbox() as starting:
        report = uvloop.run(_measured(starting.address().grpc_target, given.minutes))
    print(json.dumps(report, indent=2))
    return 0 if report["points_lost"] <= 2 else 1


async def _measured(target: str, minutes: float) -> dict[str, Any]:
    sentences = [_spoken(sentence) for sentence in SENTENCES]
    speech, said = _speech(sentences, minutes)
    message = encoded(speech, "ogg", "libopus", rate=48_000, bit_rate=32_000)
    async with open_google_speech(GoogleSpeechOptions("p", endpoint=target)) as recognizer, Workers(2) as workers:
        alone = await _alone(recognizer, sentences)
        async with aclosing(workers.each(partial(pieces, message, recognizer.takes, LONGEST))) as found:
            joined = await recognize_in_pieces(found, recognizer, side_by_side=4, deadline=_within(1800))
    cut = pieces(message, recognizer.takes, LONGEST, Stop())
    reference = [word for number in said for word in SENTENCES[number].split()]
    heard = {"alone": [word for number in said for word in alone[number].split()], "joined": joined.text.split()}
    rates = {name: _error_rate(reference, words) for name, words in heard.items()}
    return {
        "benchmark": "transcriber_words",
        "minutes": round(len(speech) / 32_000 / 60, 2),
        "sentences": len(said),
        "pieces_s": [round(piece.duration.total_seconds(), 1) for piece in cut],
        "words": {"said": len(reference), **{name: len(words) for name, words in heard.items()}},
        "word_error_rate": {name: round(rate, 2) for name, rate in rates.items()},
        "points_lost": round(rates["joined"] - rates["alone"], 2),
    }


def _speech(sentences: Sequence[bytes], minutes: float) -> tuple[bytes, list[int]]:
    """The sentences again and again, each time in another order, with pauses; and in which order."""
    randomness = random.Random(5)
    spoken, said = bytearray(), list[int]()
    while len(spoken) < minutes * 60 * 32_000:
        number = randomness.randrange(len(sentences))
        spoken += sentences[number] + silence(randomness.choice(PAUSES_S))
        said.append(number)
    return bytes(spoken), said


def _spoken(sentence: str) -> bytes:
    voice = ["-v", "en-us+f2", "-s", "150", "-p", "35", "-g", "2"]
    command = ["espeak-ng", *voice, "--stdout", sentence]
    file = subprocess.run(command, capture_output=True, check=True).stdout
    (whole,) = pieces(file, CONVERTS, LONGEST, Stop())
    return whole.content[44:]


async def _alone(recognizer: Recognizer, sentences: Sequence[bytes]) -> list[str]:
    """What is heard in each sentence by itself."""

    async def heard(samples: bytes) -> str:
        content = encoded(silence(0.5) + samples + silence(0.5), "ogg", "libopus", rate=48_000, bit_rate=32_000)
        audio = Audio(content, SoundFormat.OGG_OPUS, timedelta(seconds=len(content) / 32_000))
        return (await recognizer.transcribe(audio, deadline=_within(600))).text

    return list(await asyncio.gather(*map(heard, sentences)))


def _within(seconds: float) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds), SystemClock())


def _error_rate(reference: Sequence[str], heard: Sequence[str]) -> float:
    """Words that were changed, lost or added, for each hundred that were said (Levenshtein's distance)."""
    row = list(range(len(heard) + 1))
    for at, word in enumerate(reference, start=1):
        diagonal, row[0] = row[0], at
        for place, other in enumerate(heard, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other))
    return 100 * row[-1] / len(reference)


if __name__ == "__main__":
    sys.exit(main())
