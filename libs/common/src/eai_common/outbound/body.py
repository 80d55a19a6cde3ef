"""Reads an answer's body without trusting what the answer says about its size."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpcore

from eai_common.outbound.errors import OutboundRejected, OutboundTooLarge, OutboundUnreachable

__all__ = ["read_headers", "read_at_most", "read_whole"]

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def read_headers(response: httpcore.Response) -> dict[str, str]:
    """Return the headers by lower-case name; of a repeated one the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


async def read_whole(response: httpcore.Response, limit: int) -> bytes:
    """Return the whole body, unpacked. Raises OutboundTooLarge as soon as either form passes `limit` bytes.

    Raises OutboundRejected for an encoding that was not asked for, OutboundUnreachable for a broken one.
    """
    headers = read_headers(response)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise OutboundTooLarge(f"the answer announces {announced} bytes, {limit} at most are taken")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    return _unpack(await _collect(response, limit), encoding, limit, response.status)


async def read_at_most(response: httpcore.Response, limit: int) -> bytes:
    """Return the first `limit` bytes of the body, as sent."""
    body = bytearray()
    async for chunk in _chunks(response):
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


async def _collect(response: httpcore.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in _chunks(response):
        body += chunk
        if len(body) > limit:
            raise OutboundTooLarge(f"the answer is longer than {limit} bytes")
    return bytes(body)


async def _chunks(response: httpcore.Response) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_stream():
        yield chunk


def _unpack(body: bytes, encoding: str, limit: int, status: int) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:  # we asked for identity
        raise OutboundRejected("the answer is packed in a way that was not asked for", status=status)
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise OutboundUnreachable("the answer's packing is broken") from error
    if len(unpacked) > limit:
        raise OutboundTooLarge(f"the answer unpacks to more than {limit} bytes")
    return unpacked
