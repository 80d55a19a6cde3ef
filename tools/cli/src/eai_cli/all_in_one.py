"""All services in one process, on shared resources and one port."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import uvloop

from eai_cli.services import DEFINITIONS
from eai_common.process import CommonSettings, load_all, run_reporting_errors, serve_until_signal
from eai_common.process.in_memory import REAL_IF_CONFIGURED
from eai_common.settings import SettingsError
from eai_common.telemetry import configure_logging

__all__ = ["run_all"]

_NAME = "up"


def run_all(environ: Mapping[str, str], *, uses_sandbox: bool) -> int:
    """Run until a signal; gives the exit code: 0 drained, 1 failed, 2 wrong settings."""
    try:
        configured = load_all(DEFINITIONS, environ)
    except SettingsError as error:
        sys.stderr.write(f"eai up: wrong settings\n{error}\n")
        return 2
    common = configured[0].settings
    configure_logging(common.telemetry, service=_NAME)

    def say_ready(address: str) -> None:
        _say_ready(f"http://{address}", common, uses_sandbox=uses_sandbox)

    return run_reporting_errors(
        lambda: uvloop.run(serve_until_signal(_NAME, configured, REAL_IF_CONFIGURED, on_started=say_ready))
    )


def _say_ready(url: str, common: CommonSettings, *, uses_sandbox: bool) -> None:
    broker = "RabbitMQ" if common.broker.url.get_secret_value() else "an in-memory broker"
    redis = "Redis" if common.redis.url.get_secret_value() else "an in-process Redis"
    agents = "the sandbox" if uses_sandbox else "Google"
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"  on {broker}, {redis} and {agents}; Ctrl-C drains and stops. Try, in another terminal:\n"
        '    ./eai send "Qual o horário do posto de saúde?"\n'
        "    ./eai chat\n"
    )
