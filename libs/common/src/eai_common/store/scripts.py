"""A Lua script that costs one round trip, also inside a pipeline that others fill too.

redis-py's own scripts ask `SCRIPT EXISTS` before each pipeline that holds one: a second round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError, RedisError

from eai_common.store.client import Redis

__all__ = ["Argument", "Call", "Script"]

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script: queue it into a pipeline, then give `answer` what the pipeline's `execute` had for it.

    The pipeline must be executed with `raise_on_error=False`: a Redis that does not know the script yet says so there.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument] = ()

    @property
    def by_name(self) -> tuple[Argument, ...]:
        """The command that runs it on a Redis that knows the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    @property
    def by_text(self) -> tuple[Argument, ...]:
        """The command that runs it on any Redis, which knows the script afterwards."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.args)

    def queue(self, pipeline: Pipeline) -> None:
        """Add the call to somebody's pipeline."""
        pipeline.evalsha(self.script.sha, len(self.keys), *self.keys, *self.args)

    async def answer(self, redis: Redis, reply: object) -> object:
        """What the script returned. Runs it now when Redis did not know it; raises the reply when that is an error."""
        if isinstance(reply, NoScriptError):
            return await redis.eval(self.script.text, len(self.keys), *self.keys, *self.args)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def run(self, redis: Redis) -> object:
        """Run the script alone."""
        try:
            return await redis.evalsha(self.script.sha, len(self.keys), *self.keys, *self.args)
        except NoScriptError as unknown:
            return await self.answer(redis, unknown)


class Script:
    """A script's text and the name that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Argument] = ()) -> Call:
        """A run of it with these."""
        return Call(self, keys, args)
