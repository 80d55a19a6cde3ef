"""What the settings take, and which agents come of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest
from google.oauth2 import service_account

from eai_agent_router.failures import GOOGLE, OPENAI
from eai_agent_router.provider import ProviderResources, ProviderSettings
from eai_agent_router.providers.google_agent_engine import AgentEngineSettings
from eai_agent_router.settings import AgentSettings
from eai_agent_router.wiring import open_agents
from eai_common.clock import SystemClock
from eai_common.guards.google import is_sandbox, read_google_credentials
from eai_common.messages import HistoryMessage
from eai_common.settings import SettingsError, describe, load

ENGINE = {"GOOGLE_PROJECT_ID": "rio", "GOOGLE_AGENT_ENGINE_ID": "42"}
NAME = "projects/rio/locations/us-central1/reasoningEngines/"


class NoIds:
    async def get(self, user_number: str) -> str | None:
        return None

    async def put(self, user_number: str, agent_id: str) -> None:
        return None


class NoConversations:
    async def read(self, thread_id: str, *, without: str) -> tuple[HistoryMessage, ...]:
        return ()

    async def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> None:
        return None


async def load_provider_definitions(environ: Mapping[str, str]) -> set[str]:
    settings = load(AgentSettings, environ)
    async with open_agents(settings, ProviderResources(NoIds(), NoConversations(), SystemClock())) as agents:
        return set(agents)


def engine(environ: Mapping[str, str]) -> AgentEngineSettings:
    return load(AgentSettings, environ).providers.of(GOOGLE, AgentEngineSettings)


@pytest.mark.parametrize(
    "environ",
    [
        {"AGENT_PROVIDER": "gemini"},
        {"GOOGLE_AGENT_ENGINE_ID": "42"},
        {**ENGINE, "GOOGLE_AGENT_ENGINE_ID": "../42"},
        {**ENGINE, "GOOGLE_AGENT_ENGINE_ID": "projects/other/locations/us-central1/reasoningEngines/42"},
        {**ENGINE, "GOOGLE_REGION": "us/../central"},
        {**ENGINE, "GOOGLE_PROJECT_ID": "rio/locations"},
        {**ENGINE, "GOOGLE_PROJECT_ID": ".."},
        {**ENGINE, "AGENT_ENGINE_ALLOWED_IDS": "7,../8"},
        {**ENGINE, "AGENT_ENGINE_TRANSPORT": "http"},
        {**ENGINE, "AGENT_ENGINE_ENDPOINT": "http://engine.example.org"},
        {**ENGINE, "AGENT_ENGINE_ENDPOINT": "http://engine.example.org", "SANDBOX_HOST": "sandbox"},
        {**ENGINE, "AGENT_ENGINE_ENDPOINT": "https://engine.example.org/path"},
        {**ENGINE, "AGENT_ENGINE_CLASS_METHOD": "a b"},
        {"EAI_AGENT_SERVICE_URL": "eai.example.org"},
        {"LETTA_API_URL": "ftp://letta.example.org"},
        {"OPENAI_BASE_URL": "/v1"},
        {"OPENAI_HISTORY_MESSAGES": "0"},
    ],
    ids=str,
)
def test_a_wrong_value_is_a_mistake_that_names_its_variable(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(AgentSettings, environ)
    assert any(name in str(caught.value) for name in environ)
    assert "takes" in str(caught.value)


def test_every_variable_is_described() -> None:
    described = describe(AgentSettings)
    assert all(one.description for one in described)
    assert {one.variable for one in described if one.is_secret} == {
        "GOOGLE_APPLICATION_CREDENTIALS",
        "EAI_AGENT_SERVICE_TOKEN",
        "OPENAI_API_KEY",
    }


@pytest.mark.parametrize(
    ("environ", "host", "is_local"),
    [
        ({}, "us-central1-aiplatform.googleapis.com", False),
        ({"GOOGLE_REGION": "southamerica-east1"}, "southamerica-east1-aiplatform.googleapis.com", False),
        ({"GOOGLE_REGION": "global"}, "aiplatform.googleapis.com", False),
        ({"AGENT_ENGINE_ENDPOINT": "127.0.0.1:9000"}, "127.0.0.1:9000", True),
        ({"AGENT_ENGINE_ENDPOINT": "http://localhost:9000/"}, "localhost:9000", True),
        ({"AGENT_ENGINE_ENDPOINT": "http://[::1]:9000"}, "[::1]:9000", True),
        ({"AGENT_ENGINE_ENDPOINT": "https://psc.example.org"}, "psc.example.org", False),
        ({"AGENT_ENGINE_ENDPOINT": "http://sandbox:9000", "SANDBOX_HOST": "sandbox"}, "sandbox:9000", True),
        ({"AGENT_ENGINE_ENDPOINT": "sandbox:9000", "SANDBOX_HOST": "sandbox"}, "sandbox:9000", True),
        (
            {"AGENT_ENGINE_ENDPOINT": "https://sandbox.example.org", "SANDBOX_HOST": "sandbox"},
            "sandbox.example.org",
            False,
        ),
    ],
    ids=str,
)
def test_the_endpoint_is_googles_own_or_the_given_one(environ: dict[str, str], host: str, is_local: bool) -> None:
    settings = engine({**ENGINE, **environ})
    assert (settings.host, settings.is_local) == (host, is_local)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", True),
        ("127.9.9.9", True),
        ("http://localhost", True),
        ("[::1]:80", True),
        ("localhost.example.org", False),
        ("0.0.0.0:80", False),
        ("10.0.0.1", False),
        ("127.0.0.1.example.org", False),
        ("https://127.0.0.1@example.org", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_only_this_machine_is_asked_without_credentials(address: str, expected: bool) -> None:
    assert is_sandbox(address) is expected


def test_engines_may_be_named_in_full_in_the_settings() -> None:
    engines = engine({**ENGINE, "GOOGLE_AGENT_ENGINE_ID": NAME + "42", "AGENT_ENGINE_ALLOWED_IDS": NAME + "7"}).engines
    assert (engines.resource_name(None), engines.resource_name("7")) == (NAME + "42", NAME + "7")


@pytest.mark.parametrize(
    ("environ", "providers"),
    [
        ({**ENGINE, "AGENT_ENGINE_ENDPOINT": "127.0.0.1:1"}, {GOOGLE}),
        (
            {"EAI_AGENT_SERVICE_URL": "http://eai.example.org", "AGENT_PROVIDER": "eai_agent_service"},
            {"eai_agent_service"},
        ),
        ({"OPENAI_MODEL": "m", "AGENT_PROVIDER": "openai"}, {OPENAI}),
        (
            {**ENGINE, "AGENT_ENGINE_ENDPOINT": "127.0.0.1:1", "OPENAI_MODEL": "m"},
            {GOOGLE, OPENAI},
        ),
    ],
    ids=str,
)
async def test_only_what_is_configured_is_built(environ: dict[str, str], providers: set[str]) -> None:
    assert await load_provider_definitions(environ) == providers


@pytest.mark.parametrize("environ", [{}, {"OPENAI_MODEL": "m"}], ids=str)
async def test_a_default_provider_that_is_not_configured_is_a_start_up_error(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="AGENT_PROVIDER: got"):
        await load_provider_definitions(environ)


@pytest.mark.parametrize(
    "credentials",
    [
        "/no/such/file.json",
        "{}",
        "W10=",
        '{"type": "external_account"}',
        '{"type": "service_account", "private_key": "s3cret"}',
    ],
)
@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_credentials_that_cannot_be_read_are_a_start_up_error_without_them(
    credentials: str, transport: str
) -> None:
    environ = {**ENGINE, "GOOGLE_APPLICATION_CREDENTIALS": credentials, "AGENT_ENGINE_TRANSPORT": transport}
    with pytest.raises(SettingsError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        await load_provider_definitions(environ)
    assert "s3cret" not in str(caught.value)


def a_key() -> str:
    """A key as Google hands it out, made on the spot."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "rio",
            "private_key": key.decode(),
            "client_email": "gateway@rio.example.org",
            "token_uri": "https://oauth2.example.org/token",
        }
    )


@pytest.mark.parametrize("form", ["json", "base64", "file"])
def test_credentials_are_a_path_or_the_key_itself(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    given = a_key()
    if form == "base64":
        given = base64.b64encode(given.encode()).decode()
    if form == "file":
        path = tmp_path_factory.mktemp("key") / "key.json"
        path.write_text(given)
        given = str(path)
    credentials = read_google_credentials(given)
    assert isinstance(credentials, service_account.Credentials)
    assert credentials.service_account_email == "gateway@rio.example.org"


@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_an_engine_elsewhere_is_asked_with_tls_and_credentials(transport: str) -> None:
    environ = {**ENGINE, "GOOGLE_APPLICATION_CREDENTIALS": a_key(), "AGENT_ENGINE_TRANSPORT": transport}
    assert await load_provider_definitions(environ) == {GOOGLE}


def test_googles_limit_is_a_hundred_a_minute_and_others_have_none() -> None:
    groups = load(AgentSettings, {}).providers
    limits = [groups.of(name, ProviderSettings).calls_a_minute for name in (GOOGLE, "eai_agent_service", OPENAI)]
    assert limits == [100, 0, 0]


def test_each_limit_has_the_variable_of_its_provider() -> None:
    environ = {"GOOGLE_API_RATE_LIMIT": "1", "EAI_API_RATE_LIMIT": "2", "OPENAI_API_RATE_LIMIT": "3"}
    groups = load(AgentSettings, environ).providers
    limits = [groups.of(name, ProviderSettings).calls_a_minute for name in (GOOGLE, "eai_agent_service", OPENAI)]
    assert limits == [1, 2, 3]
