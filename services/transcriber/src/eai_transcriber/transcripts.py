"""What was heard in a piece of audio, so that the same audio is not paid for twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from pydantic import TypeAdapter

from eai_common.codec import PLAIN, Codec
from eai_common.store import RedisClient, Reply, Request, command, milliseconds

__all__ = ["KeptTranscript", "TranscriptStore"]


@dataclass(frozen=True, slots=True)
class KeptTranscript:
    """The words; `confidence` from 0 to 1, None if the recogniser gave none."""

    text: str
    confidence: float | None


_JSON = TypeAdapter(KeptTranscript)


class TranscriptStore:
    """Transcripts by a digest of who listened to what."""

    def __init__(self, redis: RedisClient, ttl: timedelta, codec: Codec = PLAIN) -> None:
        self._redis = redis
        self._codec = codec
        self._ttl_ms = milliseconds(ttl)

    def get(self, digest: str) -> Request[KeptTranscript | None]:
        """What was kept; None for nothing, and for what another version of us wrote in another way."""
        return self._redis.request(command("GET", _key(digest)), decode=self._transcript)

    def put(self, digest: str, transcript: KeptTranscript) -> Request[None]:
        """Keep it for a while."""
        body = self._codec.encode(_JSON.dump_json(transcript))
        return self._redis.request(command("SET", _key(digest), body, "PX", self._ttl_ms))

    def _transcript(self, replies: Sequence[Reply]) -> KeptTranscript | None:
        (kept,) = replies
        try:
            return None if kept is None else _JSON.validate_json(self._codec.decode(cast(bytes, kept)))
        except ValueError:  # a ValidationError is one
            return None


def _key(digest: str) -> str:
    return f"transcript:{{{digest}}}"
