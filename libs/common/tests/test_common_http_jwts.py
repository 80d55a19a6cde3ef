"""JSON Web Tokens, and the keys that are fetched for them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.responses import Response

from eai_common.credentials import Role
from eai_common.http import HttpError
from eai_common.http.callers import InvalidToken
from eai_common.http.jwks import JwksKeys, JwksUnavailable, fetch_jwks, open_jwks
from eai_common.http.jwts import JwtVerifier
from eai_common.http.testing import AUDIENCE, ISSUER, SECRET, Issuer, open_issuer
from eai_common.settings import JwtSettings, SettingsError
from eai_common.testing import eventually, pass_time, run_ready

HOUR = timedelta(hours=1)


@dataclass
class Gate:
    """A verifier on an issuer that is reached without a network."""

    issuer: Issuer
    is_down: bool = False
    times_fetched: int = 0

    def __post_init__(self) -> None:
        self.keys = JwksKeys(self.fetch, refresh=HOUR)
        self.verifier = self.with_settings()

    def with_settings(self, **environ: str) -> JwtVerifier:
        return JwtVerifier(JwtSettings.read({**self.issuer.environment, "JWT_JWKS_URL": "", **environ}), self.keys)

    async def fetch(self) -> bytes:
        self.times_fetched += 1
        await run_ready(1)
        if self.is_down:
            raise JwksUnavailable("down")
        return self.issuer.key_set()

    async def role(self, token: str) -> Role | None:
        return (await self.verifier.verify(token.encode())).role


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture()
def gate(issuer: Issuer) -> Gate:
    return Gate(issuer)


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def unsigned(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), None, algorithm="none")  # type: ignore[arg-type]


def public_key_as_secret(issuer: Issuer) -> str:
    """The classic confusion: HS256, with the public key's text as the secret."""
    key = issuer.published["rsa-1"]
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body = (
        base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=")
        for part in (
            {"alg": "HS256", "typ": "JWT", "kid": "rsa-1"},
            {"iss": ISSUER, "aud": AUDIENCE, "exp": 4102444800, "role": "admin"},
        )
    )
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(algorithm.sign(head + b"." + body, public)).rstrip(b"=")
    return b".".join((head, body, signature)).decode()


def tampered(issuer: Issuer) -> str:
    head, _, signature = issuer.token(role="read_only").split(".")
    claims = orjson.dumps({"iss": ISSUER, "aud": AUDIENCE, "exp": 4102444800, "role": "admin"})
    return f"{head}.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.{signature}"


def of_a_strangers_key(issuer: Issuer) -> str:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(), stranger, "RS256", headers={"kid": "rsa-1"})


def naming_the_other_kind(issuer: Issuer) -> str:
    """Signed with RS256, but naming the key of ES256."""
    return jwt.encode(issuer.claims(), issuer.published["rsa-1"], "RS256", headers={"kid": "ec-1"})


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_a_good_token_has_its_role(gate: Gate, algorithm: str, role: str) -> None:
    assert await gate.role(gate.issuer.token(algorithm, role=role)) == Role(role)


BAD: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "expired": (lambda issuer: issuer.token(exp=ago(seconds=31)), "ExpiredSignature"),
    "not yet valid": (lambda issuer: issuer.token(nbf=ago(seconds=-40)), "ImmatureSignature"),
    "issued in the future": (lambda issuer: issuer.token(iat=ago(seconds=-40)), "ImmatureSignature"),
    "another audience": (lambda issuer: issuer.token(aud="other"), "InvalidAudience"),
    "another issuer": (lambda issuer: issuer.token(iss="https://evil.example"), "InvalidIssuer"),
    "without exp": (lambda issuer: issuer.token(exp=None), "MissingRequiredClaim"),
    "without aud": (lambda issuer: issuer.token(aud=None), "MissingRequiredClaim"),
    "without iss": (lambda issuer: issuer.token(iss=None), "MissingRequiredClaim"),
    "not signed": (unsigned, "UnknownAlgorithm"),
    "public key as secret": (public_key_as_secret, "InvalidSignature"),
    "another secret": (lambda issuer: jwt.encode(issuer.claims(), "t" * 32, "HS256"), "InvalidSignature"),
    "tampered with": (tampered, "InvalidSignature"),
    "a stranger's key": (of_a_strangers_key, "InvalidSignature"),
    "the other kind's key": (naming_the_other_kind, "UnknownKey"),
    "another algorithm": (lambda issuer: jwt.encode(issuer.claims(), "s" * 64, "HS512"), "UnknownAlgorithm"),
    "no key of that name": (
        lambda issuer: jwt.encode(issuer.claims(), issuer.published["rsa-1"], "RS256", headers={"kid": "x"}),
        "UnknownKey",
    ),
    "no token": (lambda issuer: "a.b.c", "Decode"),
    "not even three parts": (lambda issuer: "abc", "unknown"),
    "endless": (lambda issuer: "a" * 9000 + ".b.c", "unknown"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_token_is_refused_that_is(gate: Gate, name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(InvalidToken) as refused:
        await gate.role(make(gate.issuer))
    assert str(refused.value) == reason


@pytest.mark.parametrize(("claim", "seconds"), [("exp", 5), ("nbf", -5)])
async def test_clocks_may_be_a_little_apart(gate: Gate, claim: str, seconds: float) -> None:
    claims: dict[str, Any] = {claim: ago(seconds=seconds)}
    assert await gate.role(gate.issuer.token(**claims)) == Role.ADMIN


async def test_bytes_that_are_no_text_are_no_token(gate: Gate) -> None:
    with pytest.raises(InvalidToken):
        await gate.verifier.verify(b"\xff\xfe.\xff.\xff")


async def test_a_secret_is_not_used_that_was_not_set(gate: Gate) -> None:
    verifier = gate.with_settings(JWT_SECRET="", JWT_JWKS_URL="http://127.0.0.1:1/")
    with pytest.raises(InvalidToken, match="UnknownAlgorithm"):
        await verifier.verify(gate.issuer.token("HS256").encode())


@pytest.mark.parametrize(
    ("claim", "claims", "role"),
    [
        ("role", {"role": ["read_only", "message_sender", "other"]}, Role.MESSAGE_SENDER),
        ("role", {"role": "owner"}, None),
        ("role", {"role": None}, None),
        ("role", {"role": {"admin": True}}, None),
        ("role", {"role": 7}, None),
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}, Role.ADMIN),
        ("realm_access.roles", {"realm_access": "admin"}, None),
    ],
    ids=repr,
)
async def test_the_role_is_the_highest_that_the_claim_names(
    gate: Gate, claim: str, claims: dict[str, Any], role: Role | None
) -> None:
    verifier = gate.with_settings(JWT_ROLE_CLAIM=claim)
    assert (await verifier.verify(gate.issuer.token(**claims).encode())).role == role


async def test_a_subject_is_the_same_client_with_each_of_its_tokens(gate: Gate) -> None:
    tokens = [gate.issuer.token(jti=str(n)) for n in range(2)] + [gate.issuer.token(sub="other")]
    keys = [(await gate.verifier.verify(token.encode())).key for token in tokens]
    assert (keys[0] == keys[1], keys[0] == keys[2], "someone" in keys[0]) == (True, False, False)


# Keys


@pytest.mark.virtual_time()
async def test_a_rotated_key_is_looked_for_and_the_one_taken_back_is_refused() -> None:
    gate = Gate(Issuer())
    old = gate.issuer.token()
    assert await gate.role(old) == Role.ADMIN
    gate.issuer.rotate()
    await pass_time(timedelta(seconds=31))
    assert await gate.role(gate.issuer.token()) == Role.ADMIN
    with pytest.raises(InvalidToken, match="UnknownKey"):
        await gate.role(old)


@pytest.mark.virtual_time()
async def test_keys_that_nobody_has_make_us_ask_the_issuer_at_most_twice_a_minute(gate: Gate) -> None:
    await gate.role(gate.issuer.token())

    def made_up(n: int) -> str:
        return jwt.encode(gate.issuer.claims(), gate.issuer.published["rsa-1"], "RS256", headers={"kid": f"made-{n}"})

    for _ in range(60):
        await pass_time(timedelta(seconds=1))
        await asyncio.gather(*(gate.role(made_up(n)) for n in range(5)), return_exceptions=True)
    assert gate.times_fetched <= 1 + 2


async def test_many_first_tokens_at_once_fetch_the_keys_once(gate: Gate) -> None:
    assert await asyncio.gather(*(gate.role(gate.issuer.token()) for _ in range(20))) == [Role.ADMIN] * 20
    assert gate.times_fetched == 1


@pytest.mark.virtual_time()
async def test_known_keys_work_while_the_issuer_is_down(gate: Gate) -> None:
    await gate.role(gate.issuer.token())
    gate.is_down = True
    await pass_time(timedelta(days=1))
    await gate.keys.refresh()
    assert await gate.role(gate.issuer.token("ES256")) == Role.ADMIN


async def test_while_no_keys_were_ever_had_it_cannot_tell(gate: Gate) -> None:
    gate.is_down = True
    with pytest.raises(HttpError) as told:
        await gate.role(gate.issuer.token())
    assert (told.value.status, told.value.headers) == (503, {"Retry-After": "30"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": [7]}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2Vj"}]}',
        b'{"keys": [{"kty": "RSA", "n": 7, "e": "AQAB"}]}',
    ],
    ids=repr,
)
async def test_what_is_no_key_set_changes_nothing(gate: Gate, body: bytes) -> None:
    await gate.role(gate.issuer.token())

    async def nonsense() -> bytes:
        return body

    gate.keys._fetch = nonsense
    await gate.keys.refresh()
    assert await gate.role(gate.issuer.token()) == Role.ADMIN


async def test_a_key_for_encryption_or_with_another_algorithm_is_not_used(gate: Gate) -> None:
    entries = orjson.loads(gate.issuer.key_set())["keys"]

    async def unfit() -> bytes:
        return orjson.dumps({"keys": [{**entries[0], "use": "enc"}, {**entries[0], "alg": "RS512"}, entries[1]]})

    keys = JwksKeys(unfit, HOUR)
    assert (await keys.key("RS256", "rsa-1"), await keys.key("ES256", "ec-1") is not None) == (None, True)


async def test_a_token_without_a_key_id_works_when_there_is_one_key_of_its_kind(gate: Gate) -> None:
    token = jwt.encode(gate.issuer.claims(), gate.issuer.published["rsa-1"], "RS256")
    assert await gate.role(token) == Role.ADMIN


async def test_keys_come_over_http_and_are_kept_fresh() -> None:
    async with open_issuer() as issuer, open_jwks(issuer.url, timedelta(milliseconds=50)) as keys:
        assert await keys.key("RS256", "rsa-1") is not None
        issuer.rotate()

        async def has_new_keys() -> bool:
            return await keys.key("ES256", "ec-2") is not None

        await eventually(has_new_keys)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(status_code=500), "answered 500"),
        (Response(status_code=302, headers={"location": "http://127.0.0.1:1/"}), "answered 302"),
        (Response(b"x" * (256 * 1024 + 1)), "more than 262144 bytes"),
    ],
    ids=["error", "redirect", "endless"],
)
async def test_an_issuer_that_answers_something_else_has_no_keys(answer: Response, reason: str) -> None:
    async with open_issuer() as issuer, httpx.AsyncClient() as client:
        issuer.answers = answer
        with pytest.raises(JwksUnavailable, match=reason):
            await fetch_jwks(client, issuer.url)


async def test_an_issuer_that_is_not_there_has_no_keys() -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(JwksUnavailable, match="ConnectError"):
            await fetch_jwks(client, "http://127.0.0.1:1/jwks.json")


# Settings


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"JWT_SECRET": SECRET}, "JWT_ISSUER and JWT_AUDIENCE: are required"),
        ({"JWT_JWKS_URL": "https://issuer.example/keys", "JWT_ISSUER": ISSUER}, "JWT_ISSUER and JWT_AUDIENCE"),
        ({"JWT_SECRET": "short", "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}, "JWT_SECRET: got a value that is"),
        ({"JWT_JWKS_URL": "ftp://issuer.example"}, "JWT_JWKS_URL: got"),
        ({"JWT_ROLE_CLAIM": "a..b"}, "JWT_ROLE_CLAIM: got"),
    ],
    ids=["no issuer", "no audience", "short secret", "no http", "no claim"],
)
def test_half_of_the_settings_is_refused(environ: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        JwtSettings.read(environ)
    assert str(refused.value).startswith(told)
