"""Private RabbitMQ and Redis servers on free loopback ports, for tests and benchmarks; they leave nothing behind.

Each lives in a temporary folder, in a process group of its own, under the eye of a watchdog that kills the group when
this process is gone, even by SIGKILL. (Not by PR_SET_PDEATHSIG: that fires when the *thread* that started the server
ends, and an event loop's worker threads do.)
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
    "WatchedRedis",
    "private_rabbitmq",
    "private_redis",
    "private_watched_redis",
]

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
_REDIS_GREETING = b"PING\r\n"

# A short alarm threshold for the disk: a developer's full disk is not what the tests are about.
_RABBITMQ_CONFIG = "[{rabbit, [{disk_free_limit, 1000000}]}].\n"


class ServerMissing(Exception):
    """The program is not installed; the text says how to get it."""


class ServerFailed(Exception):
    """It did not come up; the text holds the end of what it printed."""


class RabbitServer:
    """A RabbitMQ node of our own; it keeps its data and its port when stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._scripts = _rabbitmq_scripts()
        self._folder = folder
        self._epmd_port, self._dist_port, self.port = _free_ports(3)
        self._environment = self._prepare()
        epmd = [_program("epmd", "erlang-base"), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        # The Erlang port mapper is ours too, in the foreground: the one that a node starts for itself never ends.
        self._epmd = _Process.start(epmd, self._environment, folder / "epmd.log")
        self._node: _Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Return once it answers."""
        command = [str(self._scripts / "rabbitmq-server")]
        self._node = _Process.start(command, self._environment, self._folder / "rabbitmq.log")
        self._node.wait_for(self.port, _AMQP_GREETING)

    def stop(self) -> None:
        """Shut it down in good order."""
        if self._node is not None:
            self._node.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._node is not None:
            self._node.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang with its connections open, until `thaw`."""
        if self._node is not None:
            self._node.server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        if self._node is not None:
            self._node.server.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on it and return what it printed. Raises ServerFailed."""
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
        """The end of it, at once: its data are thrown away anyway."""
        self.kill()
        self._epmd.stop(signal.SIGKILL)

    def _prepare(self) -> dict[str, str]:
        files = {"enabled_plugins": "[].\n", "advanced.config": _RABBITMQ_CONFIG, "rabbitmq.conf": ""}
        for name, content in files.items():
            (self._folder / name).write_text(content)
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),  # the cookie, and nothing of the user's
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"eai-{self._folder.name}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,  # the machine's own settings stay out
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # makes the script become the node instead of waiting beside it
        }


class RedisServer:
    """A Redis of our own, without persistence: stopped and started again, it is empty."""

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
        """Return once it answers."""
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
        """Shut it down in good order."""
        if self._server is not None:
            self._server.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._server is not None:
            self._server.stop(signal.SIGKILL)

    close = kill


def private_rabbitmq() -> AbstractContextManager[RabbitServer]:
    """A RabbitMQ that is up and lives as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("rabbit-", RabbitServer)


def private_redis() -> AbstractContextManager[RedisServer]:
    """A Redis that is up and lives as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("redis-", RedisServer)


class WatchedRedis:
    """Two Redis servers, one of which copies the other, and a sentinel that promotes it when the other dies."""

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
        """Return once all three answer."""
        for server in (self.first, self.second, self._sentinel):
            server.start()

    def close(self) -> None:
        for server in (self._sentinel, self.second, self.first):
            server.close()


def private_watched_redis() -> AbstractContextManager[WatchedRedis]:
    """The three of them, as long as the context. Raises ServerMissing or ServerFailed."""
    return _private("redis-watched-", WatchedRedis)


class _Server(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


_ServerT = TypeVar("_ServerT", bound=_Server)


@contextmanager
def _private(prefix: str, server_in: Callable[[Path], _ServerT]) -> Iterator[_ServerT]:
    """A server in a folder of its own, up as long as the context."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        server = server_in(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


@dataclass(frozen=True)
class _Process:
    """A server's process group, and the watchdog that outlives us by a moment."""

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
        # Its standard input ends when we do, however we end.
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
        """Return once it has ended; what does not end in time is killed."""
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
    """Ports that were free a moment ago, all different."""
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
    """Where the scripts are that run as the user who calls them; Debian's in /usr/sbin insist on theirs."""
    debian = Path("/usr/lib/rabbitmq/bin")
    return debian if debian.is_dir() else Path(_program("rabbitmq-server", "rabbitmq-server")).resolve().parent
