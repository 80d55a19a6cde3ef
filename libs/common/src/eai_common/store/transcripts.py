"""What was heard in a piece of audio, so that the same audio is not paid for twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors

__all__ = ["KeptTranscript", "TranscriptStore"]


@dataclass(frozen=True, slots=True)
class KeptTranscript:
    """The words; `confidence` from 0 to 1, None if the recogniser gave none."""

    text: str
    confidence: float | None


_JSON = TypeAdapter(KeptTranscript)


class TranscriptStore:
    """Transcripts by a digest of who listened to what. Methods raise StoreUnavailable when Redis is out of reach."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl = ttl

    async def get(self, digest: str) -> KeptTranscript | None:
        """What was kept; None for nothing, and for what another version of us wrote in another way."""
        with map_redis_errors():
            kept = await self._redis.get(_key(digest))
        try:
            return None if kept is None else _JSON.validate_json(kept)
        except ValidationError:
            return None

    async def put(self, digest: str, transcript: KeptTranscript) -> None:
        """Keep it for a while."""
        with map_redis_errors():
            await self._redis.set(_key(digest), _JSON.dump_json(transcript), px=self._ttl)


def _key(digest: str) -> str:
    return f"transcript:{{{digest}}}"
