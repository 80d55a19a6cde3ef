"""Who may call what: every kind of credential, in every role, at every route of the gateway."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.routing import BaseRoute, Route

from eai_cli.services import DEFINITIONS
from eai_common.credentials import Role
from eai_common.http.testing import AUDIENCE, ISSUER, Issuer, open_issuer
from eai_common.process.testing import open_in_memory

MESSAGE = "message_id=019b76da-a800-7000-8000-000000000000"
HISTORY = {"user_number": "5521999990000", "messages": [{"content": "Oi", "role": "human"}]}


@dataclass(frozen=True)
class Call:
    """A request that is right but for who makes it, and the role that it takes."""

    method: str
    url: str
    role: Role | None
    body: object = None


CALLS = {
    "/live": Call("GET", "/live", None),
    "/ready": Call("GET", "/ready", None),
    "/health": Call("GET", "/health", None),
    "/metrics": Call("GET", "/metrics", None),
    "/api/v1/message/response": Call("GET", f"/api/v1/message/response?{MESSAGE}", Role.READ_ONLY),
    "/api/v1/message/last-activity": Call(
        "GET", "/api/v1/message/last-activity?user_number=5521999990000", Role.READ_ONLY
    ),
    "/api/v1/message/webhook/user": Call(
        "POST", "/api/v1/message/webhook/user", Role.MESSAGE_SENDER, {"user_number": "5521999990000", "message": "Oi"}
    ),
    "/api/v1/message/webhook/update_history": Call(
        "POST", "/api/v1/message/webhook/update_history", Role.MESSAGE_SENDER, HISTORY
    ),
    "/api/v1/message/debug/task-status": Call("GET", f"/api/v1/message/debug/task-status?{MESSAGE}", Role.ADMIN),
}

Holder = Role | Literal["unknown", "without a role"]


@dataclass(frozen=True)
class Credential:
    """What is sent, and whom it shall be taken for."""

    headers: Callable[[Issuer], dict[str, str]]
    holder: Holder


def bearer(token: str | Callable[[Issuer], str]) -> Callable[[Issuer], dict[str, str]]:
    return lambda issuer: {"Authorization": f"Bearer {token if isinstance(token, str) else token(issuer)}"}


def api_key(token: str) -> Callable[[Issuer], dict[str, str]]:
    return lambda issuer: {"X-API-Key": token}


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def public_key_as_secret(issuer: Issuer) -> str:
    """HS256, with the public key's text as the secret; by hand, because PyJWT refuses to make one."""
    public = issuer.published["rsa-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": 4102444800, "role": "admin"}
    parts = [orjson.dumps({"alg": "HS256", "kid": "rsa-1"}), orjson.dumps(claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return (signed + b"." + base64.urlsafe_b64encode(hmac.sign(signed, public)).rstrip(b"=")).decode()


def of_a_rotated_key(issuer: Issuer) -> str:
    token = issuer.token()
    issuer.rotate()
    return token


def of_the_key_rotated_in(issuer: Issuer) -> str:
    issuer.rotate()
    return issuer.token()


def signed(algorithm: str, role: Role) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.token(algorithm, role=role.value)


def secret(role: Role) -> str:
    return f"secret-of-{role.value}"


def hashed(role: Role) -> str:
    return f"unwritten-{role.value}"


API_TOKEN = ",".join(
    [
        "plain",
        *(f"{role.value}-client:{role.value}:{secret(role)}" for role in Role),
        *(
            f"{role.value}-other:{role.value}:sha256:{hashlib.sha256(hashed(role).encode()).hexdigest()}"
            for role in Role
        ),
    ]
)

NO_LIMIT = {"RATE_LIMIT_REQUESTS_PER_MINUTE": "0"}

CREDENTIALS: dict[str, Credential] = {
    "none": Credential(lambda issuer: {}, "unknown"),
    "plain token": Credential(bearer("plain"), Role.ADMIN),
    "plain token as API key": Credential(api_key("plain"), Role.ADMIN),
    **{f"token of {role.value}": Credential(bearer(secret(role)), role) for role in Role},
    **{f"API key of {role.value}": Credential(api_key(secret(role)), role) for role in Role},
    **{f"hashed token of {role.value}": Credential(bearer(hashed(role)), role) for role in Role},
    **{
        f"{algorithm} token of {role.value}": Credential(bearer(signed(algorithm, role)), role)
        for algorithm in ("HS256", "RS256", "ES256")
        for role in Role
    },
    "JWT without a role": Credential(bearer(lambda issuer: issuer.token(role=None)), "without a role"),
    "JWT of a role that is none": Credential(bearer(lambda issuer: issuer.token(role="root")), "without a role"),
    "token that nobody has": Credential(bearer("stranger"), "unknown"),
    "a token's hash": Credential(
        bearer("sha256:" + hashlib.sha256(hashed(Role.ADMIN).encode()).hexdigest()), "unknown"
    ),
    "a token's whole entry": Credential(bearer(f"admin-client:admin:{secret(Role.ADMIN)}"), "unknown"),
    "basic authentication": Credential(lambda issuer: {"Authorization": "Basic cGxhaW46"}, "unknown"),
    "expired": Credential(bearer(lambda issuer: issuer.token(exp=ago(minutes=1))), "unknown"),
    "not yet valid": Credential(bearer(lambda issuer: issuer.token(nbf=ago(minutes=-1))), "unknown"),
    "wrong audience": Credential(bearer(lambda issuer: issuer.token(aud="other")), "unknown"),
    "wrong issuer": Credential(bearer(lambda issuer: issuer.token(iss="https://evil.example")), "unknown"),
    "alg=none": Credential(bearer(lambda issuer: jwt.encode(issuer.claims(), "", algorithm="none")), "unknown"),
    "HS/RS confusion": Credential(bearer(public_key_as_secret), "unknown"),
}

ROTATED = {
    "key rotated in": Credential(bearer(of_the_key_rotated_in), Role.ADMIN),
    "key rotated out": Credential(bearer(of_a_rotated_key), "unknown"),
}
"""Apart, because each changes what its issuer publishes."""


@pytest.fixture(scope="module")
def keys() -> Issuer:
    return Issuer()


@asynccontextmanager
async def open_gateway(issuer: Issuer) -> AsyncIterator[tuple[httpx.AsyncClient, Sequence[BaseRoute]]]:
    """A client of the routes of all services that clients call, in memory."""
    # No agent answers here, and nobody waits for one.
    environ = {**issuer.environment, "API_TOKEN": API_TOKEN, "HISTORY_WAIT": "10ms", **NO_LIMIT}
    async with open_in_memory([one for one in DEFINITIONS if one.serves_clients], environ) as tested:
        yield tested.client, tested.process.routes


def verdict(holder: Holder, needed: Role | None) -> str:
    if needed is None:
        return "admitted"
    if holder == "unknown":
        return "401 Unauthorized"
    if holder == "without a role":
        return "403 Forbidden"
    return "admitted" if holder.includes(needed) else "403 Forbidden"


async def told(client: httpx.AsyncClient, calls: dict[str, Call], headers: dict[str, str]) -> dict[str, str]:
    """What becomes of each call with these headers."""
    answers = {
        path: await client.request(call.method, call.url, json=call.body, headers=headers)
        for path, call in calls.items()
    }
    return {
        path: f"{answer.status_code} {answer.json()['error']}" if answer.status_code in (401, 403) else "admitted"
        for path, answer in answers.items()
    }


async def matrix(issuer: Issuer, kinds: dict[str, Credential]) -> tuple[dict[str, object], dict[str, object]]:
    """What became of each call with each credential, and what should have."""
    headers = {kind: credential.headers(issuer) for kind, credential in kinds.items()}
    async with open_issuer(issuer), open_gateway(issuer) as (client, routes):
        served = {route.path for route in routes if isinstance(route, Route)}
        calls = {path: call for path, call in CALLS.items() if path in served}
        became = {kind: await told(client, calls, headers[kind]) for kind in kinds}
    should = {
        kind: {path: verdict(credential.holder, call.role) for path, call in calls.items()}
        for kind, credential in kinds.items()
    }
    return {**became}, {**should}


async def test_a_credential_opens_what_its_role_may_do_and_nothing_else(keys: Issuer) -> None:
    became, should = await matrix(Issuer(published=keys.published), CREDENTIALS)
    assert became == should


@pytest.mark.parametrize("kind", ROTATED)
async def test_a_key_opens_from_its_rotation_in_to_its_rotation_out(keys: Issuer, kind: str) -> None:
    became, should = await matrix(Issuer(published=keys.published), {kind: ROTATED[kind]})
    assert became == should


async def test_the_table_names_every_route_that_clients_call(keys: Issuer) -> None:
    async with open_issuer(Issuer(published=keys.published)) as issuer, open_gateway(issuer) as (_, routes):
        paths = {route.path for route in routes if isinstance(route, Route)}
    assert {path for path in paths if path.startswith("/api/")} <= CALLS.keys()
