"""Runs an ASGI app on uvicorn inside our own task group: our signals, our drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from eai_common.http.listener_filter import reject_new_connections
from eai_common.http.protocol import RequestLimits, make_protocol

__all__ = ["bind_socket", "serve"]

_SETTLES_S = 0.2  # connections that were made are accepted by then, and their requests read

_DEFAULT_LIMITS = RequestLimits()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs the process."""
        yield


def bind_socket(host: str, port: int) -> socket.socket:
    """A socket to `serve` on; port 0 takes a free one. Raises OSError with the address in its text."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that say they are TCP: without it, each
    # answer waits 40 ms for an ack.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.set_inheritable(False)
    return listener


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    grace_s: float,
    limits: RequestLimits = _DEFAULT_LIMITS,
) -> None:
    """Answer requests until `stop`, then open no connection, and finish what is open for at most `grace_s` seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whom to believe about a client's address is TRUSTED_PROXIES' to say
        lifespan="off",
        http=make_protocol(limits),
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(grace_s)),
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listener]), name="http-server")
        stopping = group.create_task(stop.wait(), name="http-server/stop")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            reject_new_connections(listener)
            await asyncio.sleep(_SETTLES_S)
        server.should_exit = True
        stopping.cancel()
