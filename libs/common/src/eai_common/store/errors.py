"""Turns what goes wrong with Redis into the one error that callers know what to do with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eai_common.errors import Unavailable

__all__ = ["BROKEN", "StoreUnavailable", "as_unavailable", "is_broken", "map_redis_errors"]

BROKEN = (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError)
"""What a connection that has died can raise. Of RuntimeErrors only the one that `is_broken` knows."""

_PASSING = (ClusterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError, TryAgainError)

# Where redis-py knows the code of an error reply, it gives the error a class and drops the code. Where it does not, or
# where the reply is a script's or was annotated by a pipeline, the code is in the text: "MISCONF Redis is configured
# to …", "Error running script (call to f_…): @user_script: 1: -OOM command …", "Command # 1 (…) … error: BUSY …".
_CODE = re.compile(r"(?:^|: -?)(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOPERM|NOREPLICAS|OOM|READONLY|TRYAGAIN) ")


class StoreUnavailable(Unavailable):
    """Redis is unreachable, silent, loading, full, failing over, or refuses what it should take."""

    error_code = "STORE_UNAVAILABLE"


def is_broken(error: BaseException) -> bool:
    """Whether the error says that the connection has died."""
    if isinstance(error, RuntimeError):
        return "handler is closed" in str(error)  # uvloop's word for a write after a reset
    return isinstance(error, BROKEN)


def as_unavailable(error: BaseException) -> StoreUnavailable | None:
    """The error to raise instead when this one is Redis' trouble, not ours; None for a wrong command or type."""
    if is_broken(error) or isinstance(error, _PASSING):
        reason = type(error).__name__
    elif isinstance(error, ResponseError) and (found := _CODE.search(str(error))):
        reason = found[1]
    else:
        return None
    unavailable = StoreUnavailable(f"Redis: {reason}")
    unavailable.__cause__ = error
    return unavailable


@contextmanager
def map_redis_errors() -> Iterator[None]:
    """Raise StoreUnavailable for Redis' own trouble; what is our bug goes through."""
    try:
        yield
    except (RedisError, OSError, RuntimeError) as error:
        if (unavailable := as_unavailable(error)) is None:
            raise
        raise unavailable from error
