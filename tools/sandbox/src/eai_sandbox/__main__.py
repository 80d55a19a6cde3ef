"""`python -m eai_sandbox`: the sandbox as a process. Prints one line of JSON with its addresses."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from datetime import timedelta

import structlog

from eai_sandbox.options import SandboxOptions
from eai_sandbox.server import run_sandbox

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or, with --exit-with-stdin, the end of stdin."""
    given = _parser().parse_args(arguments)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_serve(_options(given), exit_with_stdin=given.exit_with_stdin))
    return 0


def _parser() -> argparse.ArgumentParser:
    known = SandboxOptions()
    parser = argparse.ArgumentParser(prog="python -m eai_sandbox", description="Stand-ins for the outside services.")
    parser.add_argument("--host", default=known.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=known.http_port, help="0 takes a free one (default)")
    parser.add_argument("--grpc-port", type=int, default=known.grpc_port, help="0 takes a free one (default)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before each agent answer")
    parser.add_argument(
        "--agent-returns-thread", action="store_true", help="Agent Engine answers with the whole thread"
    )
    parser.add_argument("--eai-token", default=None, help="Bearer token that EAI and Letta routes require")
    parser.add_argument("--openai-key", default=None, help="Bearer token that OpenAI routes require")
    parser.add_argument("--speech-workers", type=int, default=known.speech_workers, help="recognitions at a time")
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when stdin ends, and so with the parent")
    return parser


def _options(given: argparse.Namespace) -> SandboxOptions:
    return SandboxOptions(
        host=given.host,
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        agent_latency=timedelta(seconds=given.latency),
        agent_returns_thread=given.agent_returns_thread,
        eai_token=given.eai_token,
        openai_key=given.openai_key,
        speech_workers=given.speech_workers,
    )


async def _serve(options: SandboxOptions, *, exit_with_stdin: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_stdin:
        threading.Thread(target=_wait_for_end_of_stdin, args=(loop, stop), daemon=True, name="stdin").start()
    async with run_sandbox(options) as sandbox:
        sys.stdout.write(json.dumps({"http": sandbox.http_url, "grpc": sandbox.grpc_target}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _wait_for_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read instead of sys.stdin: a daemon thread that holds the lock of its buffer crashes the interpreter at exit.
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())
