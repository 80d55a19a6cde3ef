"""Whether cutting costs words: ten minutes of speech as one voice message, as JSON.

    .venv/bin/python benchmarks/transcriber_words.py [--minutes 10]

Needs espeak-ng (Debian: `apt-get install espeak-ng`), which speaks the sentences; without it nothing is measured. The
recogniser is the sandbox's, which really listens, and understands two words of three of such a voice. So the figure is
the difference of word error rates, of the same recogniser on the same speech. The baseline, `known_pauses`, is the same
speech in pieces that were cut where the program knows that a sentence ends, each heard alone. `sentences` is each
sentence heard alone: what the recogniser makes of more sentences than one at a time is in the difference to it, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import accumulate
from typing import Any

import uvloop

from eai_cli.sandbox_process import start_sandbox
from eai_common.clock import Deadline
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.google_speech import GoogleSpeechOptions, open_google_speech
from eai_transcriber.in_pieces import recognize_in_pieces
from eai_transcriber.recognizer import AcceptedAudio, Audio, Recognizer, SoundFormat
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
CONVERTS = AcceptedAudio(frozenset(), timedelta(seconds=55), 9_500_000)
LONGEST = timedelta(minutes=30)


def main() -> int:
    """Measure and print. Exits with 1 if cutting costs more than two points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print(json.dumps({"benchmark": "transcriber_words", "skipped": "espeak-ng is not installed"}))
        return 0
    with start_sandbox() as starting:
        report = uvloop.run(_measured(starting.wait_for_address().grpc_target, given.minutes))
    print(json.dumps(report, indent=2))
    return 0 if report["points_lost"] <= 2 else 1


@dataclass(frozen=True)
class Speech:
    """Sentences with pauses after them: how each sounds, and which it is."""

    parts: tuple[bytes, ...]
    said: tuple[int, ...]
    pauses_s: tuple[tuple[float, float], ...]  # from where to where each pause lasts

    @property
    def samples(self) -> bytes:
        return b"".join(self.parts)

    @property
    def words(self) -> list[str]:
        return [word for number in self.said for word in SENTENCES[number].split()]

    def pieces(self) -> Iterator[bytes]:
        """As few pieces of whole sentences as fit into one call each."""
        piece = b""
        for part in self.parts:
            if len(piece) + len(part) > CONVERTS.longest.total_seconds() * 32_000:
                yield piece
                piece = b""
            piece += part
        yield piece


async def _measured(target: str, minutes: float) -> dict[str, Any]:
    sentences = [_spoken(sentence) for sentence in SENTENCES]
    speech = _speech(sentences, minutes)
    message = _as_opus(speech.samples)
    async with open_google_speech(GoogleSpeechOptions("p", endpoint=target)) as recognizer, Workers(2) as workers:
        hear = partial(_heard, recognizer)
        alone = await asyncio.gather(*(hear(silence(0.5) + spoken + silence(0.5)) for spoken in sentences))
        known = await asyncio.gather(*map(hear, speech.pieces()))
        async with aclosing(workers.each(partial(cut_into_pieces, message, recognizer.accepts, LONGEST))) as found:
            joined = await recognize_in_pieces(found, recognizer, side_by_side=4, deadline=_within(1800))
    lengths_s = [
        piece.duration.total_seconds() for piece in cut_into_pieces(message, recognizer.accepts, LONGEST, Stop())
    ]
    heard = {
        "joined": joined.text.split(),
        "known_pauses": " ".join(known).split(),
        "sentences": " ".join(alone[number] for number in speech.said).split(),
    }
    rates = {name: _error_rate(speech.words, words) for name, words in heard.items()}
    return {
        "benchmark": "transcriber_words",
        "minutes": round(sum(lengths_s) / 60, 2),
        "sentences": len(speech.said),
        "pieces_s": [round(length, 1) for length in lengths_s],
        "cuts": {"made": len(lengths_s) - 1, "inside_a_pause": _in_pauses(list(accumulate(lengths_s))[:-1], speech)},
        "words": {"said": len(speech.words), **{name: len(words) for name, words in heard.items()}},
        "word_error_rate": {name: round(rate, 2) for name, rate in rates.items()},
        "points_lost": round(rates["joined"] - rates["known_pauses"], 2),
        "points_lost_to_sentences": round(rates["joined"] - rates["sentences"], 2),
    }


def _in_pauses(cuts_s: list[float], speech: Speech) -> int:
    return sum(any(start <= cut <= end for start, end in speech.pauses_s) for cut in cuts_s)


def _speech(sentences: Sequence[bytes], minutes: float) -> Speech:
    randomness = random.Random(5)
    parts, said, pauses_s, at_s = list[bytes](), list[int](), list[tuple[float, float]](), 0.0
    while at_s < minutes * 60:
        number, pause_s = randomness.randrange(len(sentences)), randomness.choice(PAUSES_S)
        parts.append(sentences[number] + silence(pause_s))
        said.append(number)
        at_s += len(parts[-1]) / 32_000
        pauses_s.append((at_s - pause_s - 0.05, at_s + 0.05))  # a word neither begins nor ends abruptly
    return Speech(tuple(parts), tuple(said), tuple(pauses_s))


def _spoken(sentence: str) -> bytes:
    voice = ["-v", "en-us+f2", "-s", "150", "-p", "35", "-g", "2"]
    command = ["espeak-ng", *voice, "--stdout", sentence]
    file = subprocess.run(command, capture_output=True, check=True).stdout
    (whole,) = cut_into_pieces(file, CONVERTS, LONGEST, Stop())
    return whole.content[44:]


async def _heard(recognizer: Recognizer, samples: bytes) -> str:
    """What the recogniser makes of it in one call."""
    audio = Audio(_as_opus(samples), SoundFormat.OGG_OPUS, timedelta(seconds=len(samples) / 32_000))
    return (await recognizer.transcribe(audio, deadline=_within(1800))).text


def _as_opus(samples: bytes) -> bytes:
    return encoded(samples, "ogg", "libopus", rate=48_000, bit_rate=32_000)


def _within(seconds: float) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


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
