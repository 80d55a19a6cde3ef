"""Callbacks over real TLS: what arrives, who sees the bearer token, and whose certificate is refused."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eai_common.clock import Deadline, SystemClock
from eai_common.messages import TaskCompleted
from eai_common.outbound import GuardedClient, HostRule
from eai_common.stage import Attempt, StageContext
from eai_common.telemetry import Metrics
from eai_common.testing import RANDOM
from eai_formatter.callbacks import CallbackSender, CallbackSettings, build_callback_policy
from eai_formatter.callbacks.answers import CallbackFailed
from eai_formatter.callbacks.hosts import HostRules, guard_hosts
from eai_formatter.callbacks.log import CallbackAttempt
from eai_formatter.callbacks.sender import CallbackRules
from eai_formatter.callbacks.signing import Bearer, Signer
from eai_formatter.callbacks.testing import Receiver

NAMES = ("crm.example.org", "other.example.org")


class Trusting(httpcore.AnyIOBackend):
    """The network, with one more certificate to trust than the machine does."""

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self.trusted = ssl.create_default_context(cafile=str(certificate))

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return TrustingStream(await super().connect_tcp(*args, **kwargs), self.trusted)


class TrustingStream(httpcore.AsyncNetworkStream):
    """A connection whose TLS trusts it; the name is verified all the same."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, trusted: ssl.SSLContext) -> None:
        self.inner = inner
        self.trusted = trusted

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await self.inner.start_tls(self.trusted, server_hostname, timeout)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture()
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for NAMES, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "callback test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns) for dns in NAMES]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (path := tmp_path / "both.pem").write_bytes(private + made.public_bytes(pem))
    return path


@pytest.fixture()
async def receiver(certificate: Path) -> AsyncIterator[Receiver]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with Receiver(tls=tls) as opened:
        yield opened


class NoLog:
    """A delivery log that nobody reads."""

    async def note_attempt(self, event: TaskCompleted, tried: CallbackAttempt) -> None: ...


async def on_loopback(host: str) -> Sequence[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def delivering(network: httpcore.AsyncNetworkBackend | None) -> AsyncIterator[CallbackSender]:
    settings = CallbackSettings.model_validate({"allowed_networks": "127.0.0.0/8"})
    clock = SystemClock()
    async with GuardedClient(build_callback_policy(settings), resolve=on_loopback, network=network) as client:
        yield CallbackSender(
            client=client,
            signer=Signer([b"k" * 32]),
            bearer=Bearer("token", (HostRule.parse("crm.example.org"),)),
            hosts=guard_hosts(HostRules(), RANDOM.random),
            attempts=NoLog(),
            rules=CallbackRules(build_callback_policy(settings), timedelta(seconds=5), must_be_signed=True),
            clock=clock,
            metrics=Metrics(),
        )


async def deliver(to: CallbackSender, host: str, receiver: Receiver) -> None:
    event = TaskCompleted(
        message_id="01890a5d-ac96-774b-bcce-b302099a8057",
        user_number="+5521999990000",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        status="completed",
        callback_url=f"https://{host}:{receiver.port}/hook",
        result={},
    )
    clock = SystemClock()
    await to.send(event, StageContext(Deadline.after(timedelta(seconds=5)), Attempt(1), clock))


async def test_over_tls_the_token_goes_to_the_listed_host_and_to_no_other(
    certificate: Path, receiver: Receiver
) -> None:
    async with delivering(Trusting(certificate)) as to:
        for host in NAMES:
            await deliver(to, host, receiver)
    seen = {
        request.headers["host"].split(":")[0]: request.headers.get("authorization") for request in receiver.received
    }
    assert seen == {"crm.example.org": "Bearer token", "other.example.org": None}


async def test_a_certificate_that_is_not_trusted_gets_nothing(receiver: Receiver) -> None:
    async with delivering(None) as to:
        with pytest.raises(CallbackFailed):
            await deliver(to, "crm.example.org", receiver)
    assert receiver.received == []


async def test_a_certificate_for_another_name_gets_nothing(certificate: Path, receiver: Receiver) -> None:
    async with delivering(Trusting(certificate)) as to:
        with pytest.raises(CallbackFailed):
            await deliver(to, "stranger.example.org", receiver)
    assert receiver.received == []
