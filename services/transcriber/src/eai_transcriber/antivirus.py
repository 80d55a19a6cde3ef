"""ClamAV's daemon scans a recording before anything of ours opens it.

We speak its protocol ourselves: the one async client that is maintained, aioclamd 1.1, knows no local socket and hands
every KiB to a thread of its own. The protocol is a word and length-prefixed chunks (source: clamd(8), INSTREAM).
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_settings import NoDecode

from eai_common.clock import Deadline
from eai_transcriber.errors import AntivirusUnavailable, AudioInfected, AudioTooLarge

__all__ = ["ClamAV", "ClamdAddress", "ClamdSetting"]

_LONGEST_REPLY = 4096
_CHUNK_BYTES = 64 * 1024
_FOUND = re.compile(r"stream: (?P<name>.+) FOUND")
_SHORT_ENOUGH = re.compile(r"[\x21-\x7e]{1,100}")  # a signature's name; what it says goes into a log


@dataclass(frozen=True, slots=True)
class ClamdAddress:
    """Where clamd listens: a host and a port, or a local socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> ClamdAddress:
        """Read `clamd:3310`, `[::1]:3310` or `unix:/run/clamav/clamd.ctl`. Raises ValueError."""
        if text.startswith("unix:/"):
            return cls(path=text.removeprefix("unix:"))
        host, _, port = text.rpartition(":")
        if not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("neither host:port nor unix:/path")
        return cls(host=host.strip("[]"), port=int(port))


def _parse(value: object) -> object:
    return ClamdAddress.parse(value) if isinstance(value, str) else value


ClamdSetting = Annotated[
    ClamdAddress,
    NoDecode,
    BeforeValidator(_parse),
    WithJsonSchema({"type": "string", "takes": "host:port, or unix:/path of a local socket"}),
]
"""A setting: where clamd listens."""


class ClamAV:
    """Scans by clamd, over one connection for each recording."""

    def __init__(self, address: ClamdAddress, *, longest: timedelta) -> None:
        self._address = address
        self._longest = longest

    async def check(self, content: bytes, *, deadline: Deadline) -> None:
        """Return if it is clean. Raises AudioInfected, AudioTooLarge (both permanent) or AntivirusUnavailable."""
        try:
            async with asyncio.timeout(deadline.within(self._longest).remaining_s()):
                reply = await self._scan(content)
        except OSError as error:  # a TimeoutError is one, too
            raise AntivirusUnavailable(f"clamd: {type(error).__name__}") from error
        _judge(reply)

    async def _scan(self, content: bytes) -> str:
        with await _connect(self._address) as connection:
            # It may answer and close before it has read all. Then the answer says why, the broken pipe does not; and a
            # bare socket can still read it, while asyncio's streams drop it when a write fails.
            with suppress(ConnectionError):
                await _send(connection, content)
            return (await _read_line(connection)).decode("utf-8", "replace")


async def _connect(address: ClamdAddress) -> socket.socket:
    loop = asyncio.get_running_loop()
    if address.path:
        return await _open_socket(loop, socket.AF_UNIX, address.path)
    *others, last = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, _, _, _, where in others:
        with suppress(OSError):
            return await _open_socket(loop, family, where)
    return await _open_socket(loop, last[0], last[4])


async def _open_socket(loop: asyncio.AbstractEventLoop, family: int, where: tuple[object, ...] | str) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await loop.sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


async def _send(connection: socket.socket, content: bytes) -> None:
    send = asyncio.get_running_loop().sock_sendall
    await send(connection, b"zINSTREAM\0")
    for start in range(0, len(content), _CHUNK_BYTES):
        chunk = content[start : start + _CHUNK_BYTES]
        await send(connection, len(chunk).to_bytes(4, "big") + chunk)
    await send(connection, bytes(4))


async def _read_line(connection: socket.socket) -> bytes:
    """Read up to a zero byte, or until the other side closes."""
    line = bytearray()
    while len(line) < _LONGEST_REPLY and not line.endswith(b"\0"):
        more = await asyncio.get_running_loop().sock_recv(connection, _LONGEST_REPLY)
        if not more:
            break
        line += more
    return bytes(line).removesuffix(b"\0")


def _judge(reply: str) -> None:
    if reply == "stream: OK":
        return
    if (found := _FOUND.fullmatch(reply)) is not None:
        name = found["name"] if _SHORT_ENOUGH.fullmatch(found["name"]) else "something"
        raise AudioInfected(f"clamd found {name}")
    if "size limit exceeded" in reply:
        raise AudioTooLarge("clamd takes no file of this size; its StreamMaxLength should be MAX_AUDIO_SIZE_MB or more")
    raise AntivirusUnavailable("clamd answered neither that it is clean nor what it found")
