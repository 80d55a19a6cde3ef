"""The virus scanner: against a server that says what a test wants, and against a real clamd where there is one."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eai_common.clock import Deadline
from eai_common.errors import StageError
from eai_common.messages import MessageAudio
from eai_common.outbound import Fetched
from eai_common.settings import SettingsError
from eai_common.stage import StageContext
from eai_common.testing import wait_until
from eai_transcriber.antivirus import ClamAV, ClamdAddress
from eai_transcriber.errors import AntivirusUnavailable, AudioInfected, AudioTooLarge
from eai_transcriber.handler import Limits, Transcribe
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript
from eai_transcriber.settings import AudioSettings
from eai_transcriber.testing import encoded, silence
from eai_transcriber.workers import Workers

# The harmless file that every scanner calls infected (source: eicar.org), in two halves so that none minds this one.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + rb"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
RECORDING = encoded(silence(1), "wav", "pcm_s16le")


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


@dataclass
class Clamd:
    """INSTREAM as clamd speaks it, with answers as a test wants them."""

    answer: bytes = b"stream: OK\0"
    reads_at_most: int = 1 << 30  # then it answers and hangs up
    hangs: bool = False
    received: list[bytes] = field(default_factory=list)
    served: list[asyncio.Event] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served.append(asyncio.Event())
        await self._answer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.served[-1].set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
            content = bytearray()
            while size := int.from_bytes(await reader.readexactly(4), "big"):
                content += await reader.readexactly(size)
                if len(content) > self.reads_at_most:
                    break
            self.received.append(bytes(content))
            if self.hangs:
                await reader.read()  # until the other side hangs up
            writer.write(self.answer)
            await writer.drain()


@asynccontextmanager
async def listening(clamd: Clamd) -> AsyncIterator[ClamdAddress]:
    server = await asyncio.start_server(clamd.serve, "127.0.0.1", 0)
    try:
        yield ClamdAddress(host="localhost", port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for served in clamd.served:
            await served.wait()


async def check(clamd: Clamd, content: bytes, *, longest_s: float = 20, seconds: float = 20) -> None:
    async with listening(clamd) as address:
        await ClamAV(address, longest=timedelta(seconds=longest_s)).check(content, deadline=soon(seconds))


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_every_byte_is_shown_to_the_scanner(size: int) -> None:
    clamd, content = Clamd(), bytes(index % 251 for index in range(size))
    await check(clamd, content)
    assert clamd.received == [content]


async def test_a_local_socket_does_as_well(tmp_path: Path) -> None:
    clamd = Clamd()
    server = await asyncio.start_unix_server(clamd.serve, tmp_path / "clamd")
    address = ClamdAddress.parse(f"unix:{tmp_path}/clamd")
    await ClamAV(address, longest=timedelta(seconds=9)).check(b"abc", deadline=soon())
    server.close()
    assert clamd.received == [b"abc"]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"stream: Win.Test.EICAR_HDB-1 FOUND\0", AudioInfected, "Win.Test.EICAR_HDB-1"),
        (b"stream: " + b"A" * 500 + b" FOUND\0", AudioInfected, "something"),
        (b"stream: a\nb FOUND\0", AntivirusUnavailable, "neither"),
        (b"INSTREAM size limit exceeded. ERROR\0", AudioTooLarge, "StreamMaxLength"),
        (b"stream: Can't allocate memory ERROR\0", AntivirusUnavailable, "neither"),
        (b"stream: OK and more\0", AntivirusUnavailable, "neither"),
        (b"", AntivirusUnavailable, "neither"),
        (b"UNKNOWN COMMAND\0", AntivirusUnavailable, "neither"),
        (b"\xff" * 10_000, AntivirusUnavailable, "neither"),
    ],
    ids=["infected", "a long name", "a broken name", "too large", "an error", "more than OK", "nothing", "?", "noise"],
)
async def test_only_a_plain_yes_lets_a_recording_through(answer: bytes, error: type[StageError], text: str) -> None:
    with pytest.raises(error, match=text):
        await check(Clamd(answer), b"abc")


async def test_a_scanner_that_stops_reading_is_heard_out() -> None:
    with pytest.raises(AudioTooLarge):
        await check(Clamd(b"INSTREAM size limit exceeded. ERROR\0", reads_at_most=1000), bytes(20_000_000))


@pytest.mark.parametrize(("longest_s", "deadline_s"), [(0.2, 20.0), (20.0, 0.2), (20.0, 0.0)])
async def test_a_scanner_that_hangs_is_given_up(longest_s: float, deadline_s: float) -> None:
    with pytest.raises(AntivirusUnavailable, match="Timeout"):
        await check(Clamd(hangs=True), b"abc", longest_s=longest_s, seconds=deadline_s)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:/nowhere/clamd", "no-such-host.invalid:3310"])
async def test_a_scanner_that_is_not_there_may_come_back(address: str) -> None:
    with pytest.raises(AntivirusUnavailable):
        await ClamAV(ClamdAddress.parse(address), longest=timedelta(seconds=9)).check(b"abc", deadline=soon())


class Anything:
    """A download and a recogniser that always work."""

    accepts = AcceptedAudio(frozenset(SoundFormat), timedelta(seconds=55), 9_500_000)

    def __init__(self) -> None:
        self.asked = 0

    async def fetch(self, url: str, *, deadline: Deadline, max_bytes: int | None = None) -> Fetched:
        return Fetched(RECORDING, "", url)

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        self.asked += 1
        return Transcript("bom dia")


@pytest.mark.parametrize(
    ("clamd", "error"),
    [(Clamd(b"stream: Eicar FOUND\0"), AudioInfected), (Clamd(b"? ERROR\0"), AntivirusUnavailable)],
    ids=["infected", "unsure"],
)
async def test_what_is_not_clean_is_neither_opened_nor_sent_on(
    clamd: Clamd, error: type[StageError], ctx: StageContext
) -> None:
    anything = Anything()
    message = MessageAudio(
        message_id="0190b7a4-0000-7000-8000-000000000000",
        user_number="+5521999999999",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        message="https://media.example.org/a.ogg",
    )
    async with Workers(1) as workers, listening(clamd) as address:
        antivirus = ClamAV(address, longest=timedelta(seconds=9))
        transcribe = Transcribe(anything, anything, workers, Limits(), antivirus=antivirus)
        with pytest.raises(error):
            await transcribe(message, ctx)
    assert (clamd.received, anything.asked) == ([RECORDING], 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("clamd:3310", ClamdAddress(host="clamd", port=3310)),
        ("[::1]:3310", ClamdAddress(host="::1", port=3310)),
        ("unix:/run/clamav/clamd.ctl", ClamdAddress(path="/run/clamav/clamd.ctl")),
    ],
)
def test_an_address_is_a_host_and_a_port_or_a_path(text: str, address: ClamdAddress) -> None:
    assert AudioSettings.read({"CLAMD_ADDRESS": text}).clamd_address == address


@pytest.mark.parametrize("text", ["clamd", "clamd:", ":3310", "clamd:0", "clamd:70000", "unix:run/clamd", "[]:1"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(SettingsError, match="CLAMD_ADDRESS"):
        AudioSettings.read({"CLAMD_ADDRESS": text})


def test_unless_told_so_nothing_is_scanned() -> None:
    assert AudioSettings.read({}).clamd_address is None


@pytest.fixture(scope="module")
def real_clamd() -> Iterator[Path]:
    """The socket of a clamd that knows one signature: our own, of the EICAR file."""
    program = shutil.which("clamd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("clamd is not installed (Debian: clamav-daemon)")
    with tempfile.TemporaryDirectory(prefix="clamd") as name:
        folder = Path(name)
        (folder / "db").mkdir()
        (folder / "db" / "test.ndb").write_text(f"Test.Eicar:0:0:{EICAR.hex()}\n")
        lines = [f"LocalSocket {folder}/clamd", f"DatabaseDirectory {folder}/db", "Foreground yes"]
        (folder / "clamd.conf").write_text("\n".join([*lines, "StreamMaxLength 1M", ""]))
        with subprocess.Popen(
            [program, "--config-file", str(folder / "clamd.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        ) as process:
            try:
                wait_until(lambda: _answers(folder / "clamd", process), within_s=60)
                yield folder / "clamd"
            finally:
                process.terminate()


def _answers(path: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"clamd ended with {process.returncode}"
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


Checked = Callable[[bytes], Awaitable[None]]


@pytest.fixture()
def checked(real_clamd: Path) -> Checked:
    scanner = ClamAV(ClamdAddress(path=str(real_clamd)), longest=timedelta(seconds=20))
    return lambda content: scanner.check(content, deadline=soon())


async def test_a_real_clamd_lets_a_recording_through(checked: Checked) -> None:
    await checked(RECORDING)


async def test_a_real_clamd_finds_what_it_knows(checked: Checked) -> None:
    with pytest.raises(AudioInfected, match=r"Test\.Eicar"):
        await checked(EICAR)


async def test_a_real_clamd_says_when_a_file_is_beyond_its_limit(checked: Checked) -> None:
    with pytest.raises(AudioTooLarge):
        await checked(bytes(5_000_000))
