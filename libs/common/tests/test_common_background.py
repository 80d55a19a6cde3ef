"""Work that runs beside a body, and ends with it."""

from __future__ import annotations

import asyncio

import pytest

from eai_common.background import run_alongside
from eai_common.testing import run_ready


async def test_work_is_cancelled_when_the_body_ends() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with run_alongside({"work": work()}):
        await run_ready()
    assert ended.is_set()


async def test_an_error_of_the_work_ends_the_body_and_comes_out_as_it_is() -> None:
    async def work() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        async with asyncio.timeout(5), run_alongside({"work": work()}):
            await asyncio.Event().wait()


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="body"):
        async with run_alongside({"work": asyncio.Event().wait()}):
            raise LookupError("body")
