"""Private RabbitMQ and Redis servers on free loopback ports, for tests and benchmarks; they leave nothing behind.

Each has a temporary folder, a process group, and a watchdog that kills the group when this process ends, even by
SIGKILL. PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the server ends, and an event loop's
worker threads do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

__all__ = [
    "RabbitServer",
    "RedisServer",
    "ServerFailed",
    "ServerMissing",
    "RedisWithSentinel",
    "run_private_rabbitmq",
    "run_private_redis",
    "run_private_redis_with_sentinel",
]

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
_REDIS_GREETING = b"PING\r\n"

# A low alarm threshold: a developer's full disk must not fail the tests.
_RABBITMQ_CONFIG = "[{rabbit, [{disk_free_limit, 1000000}]}].\n"


class ServerMissing(Exception):
    """The program is not installed; the text says how to install it."""


class ServerFailed(Exception):
    """The server did not start or refused a command; the text holds its output."""


class RabbitServer:
    """A private RabbitMQ node. It keeps its data and port over a restart."""

    def __init__(self, folder: Path) -> None:
        self._scripts = _rabbitmq_scripts()
        self._folder = folder
        self._epmd_port, self._dist_port, self.port = _free_ports(3)
        self._write_files()
        self._environment = self._environment_of_node()
        epmd = [_program("epmd", "erlang-base"), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        # A private Erlang port mapper in the foreground: the one that a node starts never ends.
        self._epmd = _Process.start(epmd, self._environment, folder / "epmd.log")
        self._node: _Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start, and return once the server answers. Raises ServerFailed."""
        command = [str(self._scripts / "rabbitmq-server")]
        self._node = _Process.start(command, self._environment, self._folder / "rabbitmq.log")
        self._node.wait_for(self.port, _AMQP_GREETING)

    def stop(self) -> None:
        """Shut down gracefully."""
        if self._node is not None:
            self._node.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, like a power cut."""
        if self._node is not None:
            self._node.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend the process, with its connections open, until `thaw`."""
        if self._node is not None:
            self._node.server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume after `freeze`."""
        if self._node is not None:
            self._node.server.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` and return its output. Raises ServerFailed if it fails."""
        command = [str(self._scripts / "rabbitmqctl"), "--quiet", "--node", self._environment["RABBITMQ_NODENAME"]]
        done = subprocess.run(
            [*command, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_WITHIN_S,
        )
        if done.returncode:
            raise ServerFailed(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self) -> None:
        """Kill the node and its port mapper."""
        self.kill()
        self._epmd.stop(signal.SIGKILL)

    def _write_files(self) -> None:
        files = {"enabled_plugins": "[].\n", "advanced.config": _RABBITMQ_CONFIG, "rabbitmq.conf": ""}
        for name, content in files.items():
            (self._folder / name).write_text(content)
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)

    def _environment_of_node(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),  # holds the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"eai-{self._folder.name}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,  # ignores the machine's own settings
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script replaces itself by the node
        }


class RedisServer:
    """A private Redis without persistence: after a restart it is empty."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._program = _program("redis-server", "redis-server")
        self._arguments = arguments
        self._folder = folder
        (self.port,) = _free_ports(1)
        self._server: _Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return once the server answers. Raises ServerFailed."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
        }
        command = [
            self._program,
            *self._arguments,
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]
        self._server = _Process.start(command, dict(os.environ), self._folder / "redis.log")
        self._server.wait_for(self.port, _REDIS_GREETING)

    def stop(self) -> None:
        """Shut down gracefully."""
        if self._server is not None:
            self._server.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, like a power cut."""
        if self._server is not None:
            self._server.stop(signal.SIGKILL)

    close = kill


def run_private_rabbitmq() -> AbstractContextManager[RabbitServer]:
    """Run a RabbitMQ for as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("rabbit-", RabbitServer)


def run_private_redis() -> AbstractContextManager[RedisServer]:
    """Run a Redis for as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("redis-", RedisServer)


class RedisWithSentinel:
    """A Redis, its replica, and a sentinel that promotes the replica when the primary dies."""

    NAME = "gateway"

    def __init__(self, folder: Path) -> None:
        for part in ("first", "second", "sentinel"):
            (folder / part).mkdir()
        self.first = RedisServer(folder / "first", "--repl-diskless-sync-delay", "0")
        self.second = RedisServer(folder / "second", "--replicaof", "127.0.0.1", str(self.first.port))
        watched = f"sentinel monitor {self.NAME} 127.0.0.1 {self.first.port} 1\n"
        hasty = f"sentinel down-after-milliseconds {self.NAME} 1000\nsentinel failover-timeout {self.NAME} 2000\n"
        (folder / "sentinel" / "sentinel.conf").write_text(watched + hasty)
        self._sentinel = RedisServer(folder / "sentinel", "sentinel.conf", "--sentinel")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/{self.NAME}"

    def start(self) -> None:
        """Start, and return once all three answer. Raises ServerFailed."""
        for server in (self.first, self.second, self._sentinel):
            server.start()

    def close(self) -> None:
        for server in (self._sentinel, self.second, self.first):
            server.close()


def run_private_redis_with_sentinel() -> AbstractContextManager[RedisWithSentinel]:
    """Run all three for as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("redis-sentinel-", RedisWithSentinel)


class _Server(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


_ServerT = TypeVar("_ServerT", bound=_Server)


@contextmanager
def _private(prefix: str, server_in: Callable[[Path], _ServerT]) -> Iterator[_ServerT]:
    """Run a server in a temporary folder for as long as the context."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        server = server_in(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


@dataclass(frozen=True)
class _Process:
    """A server's process group, and the watchdog that kills it when this process ends."""

    server: subprocess.Popen[bytes]
    watchdog: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Self:
        with log.open("ab") as output:
            server = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=log.parent,
            )
        # Its stdin ends with this process, however that ends.
        kill = ["sh", "-c", 'read -r _; kill -s KILL -- "-$0"', str(server.pid)]
        watchdog = subprocess.Popen(
            kill,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(server, watchdog, log)

    def wait_for(self, port: int, greeting: bytes) -> None:
        """Return once the port answers the greeting. Raises ServerFailed."""
        deadline = time.monotonic() + _START_WITHIN_S
        while not _answers(port, greeting):
            if self.server.poll() is not None or time.monotonic() > deadline:
                printed = self.log.read_text(errors="replace")[-2000:]
                raise ServerFailed(f"{self.server.args!r} did not come up on port {port}. It printed: {printed}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals) -> None:
        """Send the signal and return once the group has ended; kill it if that takes too long."""
        with suppress(ProcessLookupError):
            os.killpg(self.server.pid, how)
        try:
            self.server.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
        self.watchdog.kill()
        if self.watchdog.stdin is not None:
            self.watchdog.stdin.close()
        self.watchdog.wait()


def _answers(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(greeting)
            return bool(connection.recv(1))
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Different ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ServerMissing(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def _rabbitmq_scripts() -> Path:
    """The folder of the scripts that run as any user; Debian's in /usr/sbin accept only two."""
    debian = Path("/usr/lib/rabbitmq/bin")
    return debian if debian.is_dir() else Path(_program("rabbitmq-server", "rabbitmq-server")).resolve().parent
