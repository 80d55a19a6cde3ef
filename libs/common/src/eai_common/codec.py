"""Where the JSON of events and of stored values becomes the bytes that a queue or Redis holds, and is read back.

All that says what a user or an agent wrote goes through here, so that encryption needs one more codec and its key.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["PLAIN", "Codec", "PlainCodec"]


class Codec(Protocol):
    """Between JSON and what leaves the process. What a release encodes, the one before it must be able to decode."""

    def encode(self, json: bytes) -> bytes:
        """The bytes to send or to store."""

    def decode(self, body: bytes) -> bytes:
        """The JSON. Raises ValueError for bytes that no codec like this has made."""


class PlainCodec:
    """The JSON as it is."""

    def encode(self, json: bytes) -> bytes:
        return json

    def decode(self, body: bytes) -> bytes:
        return body


PLAIN = PlainCodec()
