"""Roles, and what API_TOKEN may say."""

from __future__ import annotations

import hashlib

import pytest

from eai_common.credentials import Role, parse_api_tokens
from eai_common.settings import HttpSettings, SettingsError

HASH = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("", {}),
        (" , ", {}),
        ("secret", {"secret": "admin"}),
        (" one , two ,", {"one": "admin", "two": "admin"}),
        ("user:password", {"user:password": "admin"}),
        (f"sha256:{HASH}", {"secret": "admin"}),
        ("dash:read_only:secret", {"secret": "read_only"}),
        ("crm:message_sender:a:b:c", {"a:b:c": "message_sender"}),
        (f"ops:admin:sha256:{HASH},bot:message_sender:x", {"secret": "admin", "x": "message_sender"}),
    ],
    ids=repr,
)
def test_an_entry_is_a_token_or_a_name_a_role_and_a_token(text: str, roles: dict[str, str]) -> None:
    found = {token.digest: token.role.value for token in parse_api_tokens(text)}
    assert found == {hashlib.sha256(secret.encode()).digest(): role for secret, role in roles.items()}


def test_a_token_without_a_name_goes_by_the_beginning_of_its_hash() -> None:
    names = [token.name for token in parse_api_tokens(f"secret,crm:message_sender:{'x' * 40}")]
    assert names == [f"token-{HASH[:8]}", "crm"]


@pytest.mark.parametrize(
    "text",
    [
        "crm:sender:hunter2",
        "crm:admin:",
        ":admin:hunter2",
        "a b:admin:hunter2",
        "sha256:hunter2",
        f"crm:admin:sha256:{HASH[:-1]}",
        "hunter2,ops:admin:hunter2",
    ],
)
def test_an_entry_that_is_neither_stops_the_start_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        HttpSettings.read({"API_TOKEN": text})
    assert str(refused.value).startswith("API_TOKEN: got a value that is not shown, takes tokens separated by commas")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_may_do_what_those_below_it_may(role: Role, needed: Role) -> None:
    order = ["read_only", "message_sender", "admin"]
    assert role.includes(needed) == (order.index(role.value) >= order.index(needed.value))
