"""The sandbox as a program: what it prints, how it ends, what it does not import."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from eai_sandbox import SandboxOptions, run_sandbox

HEAVY = ("google.cloud.", "av.", "pocketsphinx.")
COMMAND = [sys.executable, "-m", "eai_sandbox", "--http-port", "0", "--grpc-port", "0"]


@contextmanager
def started(*more: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *more], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as sandbox:
        try:
            assert sandbox.stdout is not None
            yield sandbox, json.loads(sandbox.stdout.readline())
        finally:
            sandbox.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_with_zero_after_one_line_on_stdout(number: signal.Signals) -> None:
    with started() as (sandbox, listening):
        assert httpx.get(f"{listening['http']}/sandbox/health").json() == {"status": "ok"}
        sandbox.send_signal(number)
        assert sandbox.wait(timeout=10) == 0
        assert sandbox.stdout is not None
        assert sandbox.stdout.read() == b""


def test_it_ends_with_its_parent_when_told_to() -> None:
    with started("--exit-with-stdin") as (sandbox, _):
        assert sandbox.stdin is not None
        sandbox.stdin.close()
        assert sandbox.wait(timeout=10) == 0


def test_a_hanging_call_does_not_keep_it_from_ending() -> None:
    with started() as (sandbox, listening):
        httpx.put(f"{listening['http']}/sandbox/faults", json={"target": "eai", "kind": "hang"})
        with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
            client.get(f"{listening['http']}/api/v1/system-prompt", timeout=0.2)
        sandbox.terminate()
        assert sandbox.wait(timeout=10) == 0


def test_a_killed_sandbox_leaves_no_recogniser_behind(recording: bytes) -> None:
    with started() as (sandbox, listening):
        file = {"file": ("question.wav", recording)}
        url = f"{listening['http']}/v1/audio/transcriptions"
        assert httpx.post(url, files=file, data={"model": "local"}, timeout=30).status_code == 200
        workers = psutil.Process(sandbox.pid).children()
        assert workers
        sandbox.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive


def test_options_reach_the_routes() -> None:
    with started("--eai-token", "secret") as (_, listening):
        assert httpx.get(f"{listening['http']}/api/v1/system-prompt").status_code == 401


def test_starting_imports_no_google_client_library_and_no_audio() -> None:
    program = "import sys, eai_sandbox.__main__; print(*sys.modules, sep='\\n')"
    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    ).stdout.split()
    assert not [module for module in imported if module.startswith(HEAVY)]


@pytest.mark.parametrize("port", ["http_port", "grpc_port"])
async def test_a_port_that_is_taken_is_an_error(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = SandboxOptions(**{port: taken.getsockname()[1]})
        with pytest.raises(OSError, match=r"in use|cannot listen"):
            async with run_sandbox(options):
                pass


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_threads"):
        SandboxOptions(max_threads=0)
