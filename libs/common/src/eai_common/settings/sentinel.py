"""The address of a Redis whose primary sentinels know: `redis+sentinel://host:port,host:port/name/database`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["SENTINEL_FORM", "SentinelAddress"]

SENTINEL_FORM = "redis+sentinel://host:port,host:port/name"
_ADDRESS = re.compile(r"redis(?P<tls>s?)\+sentinel://(?P<sentinels>[^/@]+)/(?P<name>[\w.-]+)(?:/(?P<database>\d+))?/?")
_SENTINEL = re.compile(r"(?P<host>[^\s:]+|\[[^\s\]]+\])(?::(?P<port>\d{1,5}))?")
_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Where the sentinels are, and what they call the primary."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int = 0
    with_tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """None for an address of one server. Raises ValueError for one that means sentinels and cannot be read."""
        if "+sentinel:" not in url:
            return None
        whole = _ADDRESS.fullmatch(url)
        sentinels = [_SENTINEL.fullmatch(one) for one in whole["sentinels"].split(",")] if whole else []
        if whole is None or None in sentinels:
            raise ValueError(f"REDIS_URL: got a value that is not shown, takes {SENTINEL_FORM}, the password apart")
        places = tuple((one["host"].strip("[]"), int(one["port"] or _PORT)) for one in sentinels if one)
        return cls(places, whole["name"], int(whole["database"] or 0), bool(whole["tls"]))
