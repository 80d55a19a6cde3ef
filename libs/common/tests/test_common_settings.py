"""Settings: what is read, what is refused and in which words, and that no secret is ever shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from eai_common.settings import (
    BrokerSettings,
    Duration,
    Group,
    HttpSettings,
    Items,
    ProcessSettings,
    RedisSettings,
    SettingsError,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
    describe,
    load,
)

GROUPS = (
    BrokerSettings,
    HttpSettings,
    ProcessSettings,
    RedisSettings,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
)


class KitchenSettings(Group):
    """One field of each kind."""

    cook: str = Field(description="Who cooks; there is no default.")
    guests: int = Field(4, ge=1, le=12, description="Seats.")
    dishes: int = Field(3, ge=1, description="No most.")
    salt_grams: float = Field(1.5, gt=0, le=5, description="More than none.")
    is_open: bool = Field(True, description="Whether guests are let in.")
    cooking_time: Duration = Field(timedelta(minutes=30), description="How long.")
    menu: Items = Field(("soup", "bread"), description="What there is.")
    safe_code: SecretStr = Field(SecretStr(""), description="Never shown.")
    spare: int | None = Field(None, ge=1, le=2, description="Unset by default.")


@dataclass(frozen=True)
class House:
    """A service's settings: several groups."""

    kitchen: KitchenSettings
    broker: BrokerSettings


def mistakes(group: type[Group], **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        group.read(environ)
    return refused.value.mistakes


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("300", timedelta(seconds=300)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("2d", timedelta(days=2)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5", timedelta(seconds=1.5)),
        (" 10 S ", timedelta(seconds=10)),
        ("0", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_with_a_unit_or_seconds(text: str, meant: timedelta) -> None:
    assert TaskSettings.read({"TASK_RESULT_TTL": text}).task_result_ttl == meant


@pytest.mark.parametrize("text", ["soon", "-1", "1e5", "5 fortnights", "30s 5s", "９9", "P1D", "9" * 30, "1e400s"])
def test_what_is_no_duration_is_refused_by_name_with_what_it_takes(text: str) -> None:
    assert mistakes(TaskSettings, TASK_RESULT_TTL=text) == [
        f'TASK_RESULT_TTL: got "{text}", takes a duration such as 300, "30s", "5m" or "24h"'
    ]


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("GUESTS", "ten", "a whole number from 1 to 12"),
        ("GUESTS", "0", "a whole number from 1 to 12"),
        ("GUESTS", "13", "a whole number from 1 to 12"),
        ("GUESTS", "4.5", "a whole number from 1 to 12"),
        ("DISHES", "0", "a whole number of at least 1"),
        ("SALT_GRAMS", "0", "a number above 0, up to 5"),
        ("SALT_GRAMS", "nan", "a number above 0, up to 5"),
        ("SALT_GRAMS", "inf", "a number above 0, up to 5"),
        ("IS_OPEN", "perhaps", "true or false"),
        ("SPARE", "3", "a whole number from 1 to 2"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_what_it_got_and_what_it_takes(
    name: str, value: str, takes: str
) -> None:
    assert mistakes(KitchenSettings, COOK="Ana", **{name: value}) == [f'{name}: got "{value}", takes {takes}']


@pytest.mark.parametrize(
    ("group", "name", "value", "takes"),
    [
        (ProcessSettings, "ENVIRONMENT", "prod", "one of development, staging, production"),
        (BrokerSettings, "RABBITMQ_PREFETCH_COUNT", "ten", "a whole number from 1 to 1000"),
        (BrokerSettings, "RABBITMQ_QUEUE_TYPE", "lazy", "one of quorum, classic"),
        (HttpSettings, "PORT", "70000", "a whole number from 0 to 65535"),
        (HttpSettings, "MAX_REQUEST_SIZE_MB", "0", "a number above 0, up to 1024"),
        (HttpSettings, "API_COMPATIBILITY", "v1", "one of described, predecessor"),
        (TelemetrySettings, "LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        (TelemetrySettings, "METRICS_PATH", "metrics", r"text that matches ^/\S+$"),
        (WorkerSettings, "MAX_PARALLEL", "0", "a whole number from 1 to 1000"),
        (WorkerSettings, "CHECKPOINT_LEASE", "x", 'a duration such as 300, "30s", "5m" or "24h"'),
    ],
)
def test_the_services_own_settings_refuse_in_the_same_words(
    group: type[Group], name: str, value: str, takes: str
) -> None:
    assert mistakes(group, **{name: value}) == [f'{name}: got "{value}", takes {takes}']


def test_a_sandbox_is_refused_in_production_only() -> None:
    assert mistakes(ProcessSettings, ENVIRONMENT="production", SANDBOX_HOST="sandbox") == [
        'SANDBOX_HOST: got "sandbox", takes nothing in production'
    ]
    assert ProcessSettings.read({"SANDBOX_HOST": "sandbox"}).sandbox_host == "sandbox"


def test_a_required_variable_that_is_missing_is_named() -> None:
    assert mistakes(KitchenSettings) == ["COOK: is required, takes text"]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert KitchenSettings.read({"COOK": "Ana", "GUESTS": ""}).guests == 4


def test_variables_of_others_are_ignored_and_names_may_be_in_lower_case() -> None:
    assert KitchenSettings.read({"cook": "Ana", "HOME": "/root", "PATH": "x"}).cook == "Ana"


def test_a_list_is_separated_by_commas_and_has_no_empty_items() -> None:
    group = KitchenSettings.read({"COOK": "Ana", "MENU": " rice , beans,, "})
    assert group.menu == ("rice", "beans")


@pytest.mark.parametrize("level", ["INFO", "Info", "info"])
def test_a_log_level_may_be_written_in_any_case(level: str) -> None:
    assert TelemetrySettings.read({"LOG_LEVEL": level}).log_level == "info"


def test_a_group_made_in_a_test_does_not_see_the_machines_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    assert HttpSettings.model_validate({}).port == 8080


def test_all_mistakes_of_all_groups_are_told_at_once_each_on_its_line() -> None:
    with pytest.raises(SettingsError) as refused:
        load(House, {"GUESTS": "0", "RABBITMQ_MAX_RETRIES": "many"})
    assert str(refused.value).splitlines() == [
        "COOK: is required, takes text",
        'GUESTS: got "0", takes a whole number from 1 to 12',
        'RABBITMQ_MAX_RETRIES: got "many", takes a whole number from 0 to 50',
    ]


def test_all_groups_are_read_from_one_environment() -> None:
    house = load(House, {"COOK": "Ana", "RABBITMQ_EXCHANGE": "kitchen"})
    assert (house.kitchen.cook, house.broker.topology.exchange) == ("Ana", "kitchen")


# Secrets


def test_a_secret_is_read_from_the_file_that_name_file_tells(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://:hunter2@host/0\n", encoding="utf-8")
    group = RedisSettings.read({"REDIS_URL_FILE": str(file)})
    assert group.url.get_secret_value() == "redis://:hunter2@host/0"


def test_a_file_stands_for_secrets_only(tmp_path: Path) -> None:
    file = tmp_path / "guests"
    file.write_text("9", encoding="utf-8")
    assert KitchenSettings.read({"COOK": "Ana", "GUESTS_FILE": str(file)}).guests == 4


def test_a_secrets_file_that_is_missing_is_a_mistake_with_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere")
    assert mistakes(RedisSettings, REDIS_PASSWORD_FILE=path) == [
        f'REDIS_PASSWORD_FILE: got "{path}", takes the path of a readable file (No such file or directory)'
    ]


def test_a_secrets_file_that_is_no_text_is_a_mistake_that_does_not_show_it(tmp_path: Path) -> None:
    file = tmp_path / "keystore"
    file.write_bytes(b"\xff\xfehunter2")
    assert mistakes(RedisSettings, REDIS_PASSWORD_FILE=str(file)) == [
        f'REDIS_PASSWORD_FILE: got "{file}", takes the path of a readable file (not text in UTF-8)'
    ]


class VaultSettings(Group):
    """A secret that can be wrong."""

    vault_code: SecretStr = Field(min_length=20, description="Never shown.")


def test_a_wrong_secret_is_named_and_not_shown() -> None:
    (line,) = mistakes(VaultSettings, VAULT_CODE="hunter2")
    assert line == "VAULT_CODE: got a value that is not shown, takes text"


def test_a_wrong_secret_in_a_chain_of_errors_is_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        VaultSettings.read({"VAULT_CODE": "hunter2"})
    assert "hunter2" not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",:"), min_size=6))
def test_no_secret_is_in_the_text_form_of_its_group(secret: str) -> None:
    group = HttpSettings.read({"API_TOKEN": f"secret-{secret}"})
    assert f"secret-{secret}" not in f"{group!r} {group}"


# Words for people


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_shared_setting_says_what_it_is(group: type[Group]) -> None:
    assert [name for name, field in group.model_fields.items() if not field.description] == []


def test_a_setting_is_described_by_its_variable_what_it_takes_and_its_default() -> None:
    described = {setting.variable: setting for setting in describe(House)}
    told = {
        name: (described[name].takes, described[name].default) for name in ("COOK", "MENU", "COOKING_TIME", "SPARE")
    }
    assert told == {
        "COOK": ("text", None),
        "MENU": ("a list separated by commas", "soup,bread"),
        "COOKING_TIME": ('a duration such as 300, "30s", "5m" or "24h"', "1800s"),
        "SPARE": ("a whole number from 1 to 2", ""),
    }


def test_a_setting_with_a_name_of_its_own_is_described_by_that_name() -> None:
    @dataclass(frozen=True)
    class Worker:
        worker: WorkerSettings

    assert "CHECKPOINT_LEASE" in {setting.variable for setting in describe(Worker)}


def test_secrets_are_described_as_secrets() -> None:
    secrets = {setting.variable for setting in describe(House) if setting.is_secret}
    assert secrets == {"SAFE_CODE", "RABBITMQ_URL"}
