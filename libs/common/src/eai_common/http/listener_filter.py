"""Rejects new connections at a listening socket before it closes, so that none is reset that was just made.

A port that closes resets the connections that the kernel has made and nobody has accepted yet; their clients have sent
a request, and cannot know whether it was taken. So the kernel is told first to drop what would open a connection: a
load balancer takes the next replica, a client tries again in a second. What is under way is accepted and answered.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress

__all__ = ["reject_new_connections"]

# A classic BPF program (source: Linux, Documentation/networking/filter.rst): code, jumps if true and if false, operand.
# It is given packets from their TCP header on.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone opens a connection:
    (0x06, 0, 0, 0),  # keep no byte of the packet,
    (0x06, 0, 0, 0xFFFFFFFF),  # else all
)
_SO_ATTACH_FILTER = 26


def reject_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop what would open a connection. Does nothing if the kernel has no such filter."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    option = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
