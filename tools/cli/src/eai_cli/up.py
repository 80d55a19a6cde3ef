"""`./eai up`: all five services in one process.

The code is that of production. What differs: a broker and a Redis in memory, and a sandbox instead of the providers,
each only if the real one is not configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from dotenv import dotenv_values

from eai_cli.sandbox_process import SandboxFailed, sandbox_environment, start_sandbox

__all__ = ["NotInProduction", "merge_environment", "refuse_in_production", "run_up"]

_LAPTOP_DEFAULTS = {"LOG_FORMAT": "text", "MAX_PARALLEL": "20"}


class NotInProduction(Exception):
    """In-memory parts or a sandbox in production; the text says what to set."""


def run_up(host: str, port: int) -> int:
    """Run until Ctrl-C or SIGTERM; gives the exit code: 0 drained, 1 failed, 2 invalid settings."""
    environ = merge_environment(os.environ, _dotenv(Path(".env")), host=host, port=port)
    try:
        refuse_in_production(environ)
        with ExitStack() as stack:
            sandbox = None if _has_google(environ) else stack.enter_context(start_sandbox())
            # Imported here: the sandbox starts on another core while the services load.
            from eai_cli.all_in_one import run_all

            if sandbox is not None:
                environ = {**sandbox_environment(sandbox.wait_for_address()), **environ}
            return run_all(environ, uses_sandbox=sandbox is not None)
    except (NotInProduction, SandboxFailed) as error:
        sys.stderr.write(f"eai up: {error}\n")
        return 2 if isinstance(error, NotInProduction) else 1
    except KeyboardInterrupt:
        return 130  # before the first message


def merge_environment(environ: Mapping[str, str], dotenv: Mapping[str, str], *, host: str, port: int) -> dict[str, str]:
    """The environment, then `.env`, then the defaults for a laptop.

    Empty values are left out, as the services do: they must not override the sandbox's settings.
    """
    merged = {**_LAPTOP_DEFAULTS, **dotenv, **environ, "HOST": host, "PORT": str(port)}
    return {name: value for name, value in merged.items() if value != ""}


def refuse_in_production(environ: Mapping[str, str]) -> None:
    """Raises NotInProduction for in-memory parts or a sandbox with ENVIRONMENT=production."""
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
