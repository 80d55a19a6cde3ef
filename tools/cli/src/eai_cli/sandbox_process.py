"""The sandbox as a child process: it starts on another core, and ends with its parent, even a killed one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["SandboxAddress", "SandboxFailed", "SandboxProcess", "sandbox_environment", "start_sandbox"]

_STOP_WITHIN_S = 5


class SandboxFailed(Exception):
    """The sandbox ended before it was ready; the reason is on stderr."""


@dataclass(frozen=True, slots=True)
class SandboxAddress:
    """Where the sandbox listens."""

    http_url: str
    grpc_target: str


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """A sandbox that was started and may not be ready yet."""

    process: subprocess.Popen[bytes]

    def wait_for_address(self) -> SandboxAddress:
        """Wait until the sandbox is ready. Raises SandboxFailed if it ends first."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SandboxFailed(f"the sandbox ended with code {self.process.wait()}")
        address = json.loads(line)
        return SandboxAddress(address["http"], address["grpc"])


@contextmanager
def start_sandbox() -> Iterator[SandboxProcess]:
    """Start the sandbox without waiting for it; stop it at the end of the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eai_sandbox", "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal must not stop it while messages drain
    )
    try:
        yield SandboxProcess(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def sandbox_environment(sandbox: SandboxAddress) -> dict[str, str]:
    """The settings that point every provider at the sandbox."""
    return {
        "GOOGLE_PROJECT_ID": "sandbox",
        "GOOGLE_AGENT_ENGINE_ID": "1",
        "GOOGLE_API_RATE_LIMIT": "0",  # the sandbox has no quota
        "SPEECH_ENDPOINT": sandbox.grpc_target,
        "SPEECH_LANGUAGES": "en-US",  # the sandbox hears English only
        "AGENT_ENGINE_TRANSPORT": "rest",  # loads in a third of the time of the gRPC client
        "AGENT_ENGINE_ENDPOINT": sandbox.http_url,
        "EAI_AGENT_SERVICE_URL": sandbox.http_url,
        "OPENAI_BASE_URL": f"{sandbox.http_url}/v1",
        "OPENAI_MODEL": "sandbox",
        "AGENT_PROVIDERS": "google_agent_engine,eai_agent_service,openai",
        "TRANSCRIBE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CALLBACK_ALLOW_HTTP": "true",
    }
