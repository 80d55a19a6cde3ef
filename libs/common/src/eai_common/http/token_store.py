"""The API tokens that are valid now: those of the settings, or of a file that may change while the process runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from eai_common.credentials import ApiToken, parse_api_tokens
from eai_common.telemetry import get_logger

__all__ = ["TokenStore"]

log = get_logger("eai.access")


class TokenStore:
    """The tokens, in the order in which they are listed."""

    def __init__(self, tokens: tuple[ApiToken, ...]) -> None:
        self._tokens = tokens

    def __iter__(self) -> Iterator[ApiToken]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    async def keep_fresh(self, file: Path, interval: timedelta) -> NoReturn:
        """Read the file each `interval`, until cancelled. A file that is unreadable or empty changes nothing."""
        while True:
            await asyncio.sleep(interval.total_seconds())
            try:
                tokens = _parse(await asyncio.to_thread(file.read_text, encoding="utf-8"))
            except (OSError, ValueError) as error:
                # The text of a ValueError of ours holds no token; what others say of a file's content might.
                log.error("credentials_not_read", file=str(file), error=type(error).__name__)
                continue
            if tokens != self._tokens:
                self._tokens = tokens
                log.info("credentials_rotated", tokens=len(tokens))


def _parse(text: str) -> tuple[ApiToken, ...]:
    if not (tokens := parse_api_tokens(text)):
        raise ValueError("no tokens")
    return tokens
