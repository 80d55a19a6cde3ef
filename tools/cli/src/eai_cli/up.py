"""`./eai up`: all five services in one process, on whatever parts there are.

The code is the services' own; what differs from production is which broker and Redis are opened, and that a sandbox
stands where no provider is configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from dotenv import dotenv_values

from eai_cli.sandbox_process import SandboxFailed, sandbox_environment, started_sandbox

__all__ = ["NotInProduction", "environment_for_up", "refuse_in_production", "run_up"]

_SUITS_A_LAPTOP = {"LOG_FORMAT": "text", "MAX_PARALLEL": "20"}


class NotInProduction(Exception):
    """In-memory parts or a sandbox would stand where messages must not be lost."""


def run_up(host: str, port: int) -> int:
    """Run until Ctrl-C or SIGTERM; gives the exit code: 0 drained, 1 failed, 2 wrong settings."""
    environ = environment_for_up(os.environ, _dotenv(Path(".env")), host=host, port=port)
    try:
        refuse_in_production(environ)
        with ExitStack() as stack:
            sandbox = None if _has_google(environ) else stack.enter_context(started_sandbox())
            # Imported here: while the services load, the sandbox starts on the other core.
            from eai_cli.all_in_one import run_all

            if sandbox is not None:
                environ = {**sandbox_environment(sandbox.address()), **environ}
            return run_all(environ, uses_sandbox=sandbox is not None)
    except (NotInProduction, SandboxFailed) as error:
        sys.stderr.write(f"eai up: {error}\n")
        return 2 if isinstance(error, NotInProduction) else 1
    except KeyboardInterrupt:
        return 130  # before anything was accepted


def environment_for_up(
    environ: Mapping[str, str], dotenv: Mapping[str, str], *, host: str, port: int
) -> dict[str, str]:
    """What the services read: the environment, below it `.env`, below that what suits a laptop.

    What is set to nothing is left out, as the services do: it must not stand above the sandbox's own value.
    """
    told = {**_SUITS_A_LAPTOP, **dotenv, **environ, "HOST": host, "PORT": str(port)}
    return {name: value for name, value in told.items() if value != ""}


def refuse_in_production(environ: Mapping[str, str]) -> None:
    """Raises NotInProduction, with what to set."""
    if environ.get("ENVIRONMENT", "").lower() != "production":
        return
    if missing := [name for name in ("RABBITMQ_URL", "REDIS_URL") if not environ.get(name)]:
        raise NotInProduction(
            f"ENVIRONMENT=production without {' and '.join(missing)}: in-memory parts lose every message when the "
            "process ends. Set what is missing, or use ENVIRONMENT=development"
        )
    if not _has_google(environ):
        raise NotInProduction(
            "ENVIRONMENT=production without GOOGLE_PROJECT_ID: the sandbox would answer citizens. Set it, or use "
            "ENVIRONMENT=development"
        )


def _has_google(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("GOOGLE_PROJECT_ID"))


def _dotenv(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None}
