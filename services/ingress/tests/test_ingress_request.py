"""The webhook's body, field by field: what is taken and as what, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eai_common.http import HttpError
from eai_common.outbound import OutboundPolicy
from eai_ingress.request import RequestRules, WebhookRequest, parse_webhook

RULES = RequestRules(providers=frozenset({"google_agent_engine", "openai"}))
PREDECESSOR = RequestRules(providers=frozenset(), opaque_user_numbers=True)
HTTP_CALLBACKS = RequestRules(providers=frozenset(), callbacks=OutboundPolicy(allow_http=True))
BODY: dict[str, Any] = {"user_number": "5521999990000", "message": "Oi"}
AUDIO = "https://host/a.ogg"
ENGINE = "projects/rj-eai-1/locations/us-central1/reasoningEngines/123"


def parse(fields: dict[str, Any], rules: RequestRules = RULES) -> WebhookRequest:
    return parse_webhook(orjson.dumps({**BODY, **fields}), rules)


def refused(body: bytes, rules: RequestRules = RULES) -> HttpError:
    with pytest.raises(HttpError) as raised:
        parse_webhook(body, rules)
    assert (raised.value.status, raised.value.body.error) == (400, "Invalid request")
    return raised.value


def wrong_fields(fields: dict[str, Any], rules: RequestRules = RULES) -> list[str]:
    return [detail.field for detail in refused(orjson.dumps({**BODY, **fields}), rules).body.details]


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


# Good fields


@pytest.mark.parametrize("number", ["5521999990000", "+5521999990000"])
def test_a_number_is_kept_with_its_plus(number: str) -> None:
    assert parse({"user_number": number}).user_number == "+5521999990000"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("  Olá \n", "Olá"),
        ("é" * 4096, "é" * 4096),
        (" " * 100 + "x" * 4096 + " ", "x" * 4096),
        ("once = 1; DROP TABLE 'x' <script>", "once = 1; DROP TABLE 'x' <script>"),
        ('print("a")', 'print("a")'),
    ],
    ids=["trimmed", "characters, not bytes", "trimmed before counting", "code is no attack", "quotes in code"],
)
def test_a_message_is_kept_as_it_was_written(message: str, kept: str) -> None:
    assert parse({"message": message}).message == kept


@pytest.mark.parametrize(
    ("message", "given_type", "kind"),
    [
        ("Oi", None, "text"),
        ("Oi", "text", "text"),
        ("https://host/a.ogg", None, "audio"),
        ("http://host/a.MP3?token=1#x", None, "audio"),
        ("https://host/path/voice.opus", None, "audio"),
        ("https://host/a", "audio", "audio"),
        ("https://host/a.ogg", "text", "text"),
        ("https://host/a.pdf", None, "text"),
        ("https://host/?file=a.ogg", None, "text"),
        ("veja https://host/a.ogg", None, "text"),
        ("https://host/a.ogg obrigado", None, "text"),
        ("ftp://host/a.ogg", None, "text"),
        ("https:///a.ogg", None, "text"),
        ("a.ogg", None, "text"),
        ("https://[host/a.ogg", None, "text"),
        *((f"https://host/a.{suffix}", None, "audio") for suffix in "mp3 wav m4a aac ogg oga flac wma opus".split()),
    ],
)
def test_a_message_is_text_unless_it_says_or_looks_audio(message: str, given_type: str | None, kind: str) -> None:
    fields = {"message": message} if given_type is None else {"message": message, "message_type": given_type}
    assert parse(fields).kind == kind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_message", "Olá, cidadão"),
        ("previous_message", "x" * 16_384),
        ("previous_message", None),
        ("metadata", {}),
        ("metadata", {"ticket": 7, "tags": ["a", None, 1.5, True], "é": {"deep": []}}),
        ("metadata", nested(31)),
        ("metadata", {"a": "x" * (8 * 1024 - 8)}),
        ("metadata", None),
        ("provider", "google_agent_engine"),
        ("provider", "openai"),
        ("provider", None),
        ("reasoning_engine_id", "123"),
        ("reasoning_engine_id", ENGINE),
        ("reasoning_engine_id", None),
        ("callback_url", "https://channel.example/callback?id=1"),
        ("callback_url", "https://channel.example/" + "x" * 2024),
        ("callback_url", None),
        ("message_type", None),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_optional_field_is_handed_through(name: str, value: object) -> None:
    assert getattr(parse({name: value}), name) == value


def test_fields_that_are_not_known_are_ignored() -> None:
    assert parse({"channel": "whatsapp"}) == parse({})


# Bad fields


BAD: dict[str, tuple[object, ...]] = {
    "user_number": (
        *(
            "",
            "1234567",
            "1" * 16,
            "+55 21 99999-0000",
            "++5521999990000",
            "55219999x0000",
            "５５２１９９９９９００００",
        ),
        *("5521999990000\n", 5521999990000, None, ["5521999990000"], "user_ab12cd34"),
    ),
    "message": ("", "  \n\t ", "x" * 4097, None, 7, ["Oi"], {"text": "Oi"}),
    "message_type": ("video", "", "TEXT", 1, "audio"),
    "previous_message": ("x" * 16_385, 7, ["Oi"]),
    "metadata": ([], "x", 7, {"a": "x" * (8 * 1024)}, {"a": "é" * (4 * 1024)}, nested(100), nested(250)),
    "provider": ("", "eai_agent_service", "Google_Agent_Engine", 7, "../x"),
    "reasoning_engine_id": (
        *("", "abc", "1/../2", "../1", "1?x=1", "1\n", "1" * 33, 123),
        "projects/x/locations/y/reasoningEngines/../1",
    ),
    "callback_url": (
        *("", "http://channel.example/x", "ftp://channel.example/x", "javascript:alert(1)", "//channel.example", "/x"),
        *("https://", "https:///x", "https://a b", "https://[::1", "https://channel.example/" + "x" * 2048, 7),
        *("https://127.0.0.1/x", "https://10.0.0.1", "https://[::ffff:127.0.0.1]/", "https://user@channel.example/"),
    ),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: ascii(value)[:40],
)
def test_a_field_that_breaks_its_rule_is_refused_by_name(name: str, value: object) -> None:
    assert wrong_fields({name: value}) == [name]


@pytest.mark.parametrize("missing", ["user_number", "message"])
def test_a_required_field_that_is_missing_is_named(missing: str) -> None:
    body = {name: value for name, value in BODY.items() if name != missing}
    error = refused(orjson.dumps(body))
    assert [detail.field for detail in error.body.details] == [missing]


def test_every_wrong_field_is_told_and_the_first_one_in_the_message() -> None:
    error = refused(orjson.dumps({"user_number": "x", "message": "", "provider": "nobody"}))
    assert [detail.field for detail in error.body.details] == ["user_number", "message", "provider"]
    assert error.body.message.startswith("user_number: takes a number in E.164 form")


@pytest.mark.parametrize(
    "fields", [{"message": "", "message_type": "audio"}, {"message": None, "message_type": "audio"}], ids=str
)
def test_a_wrong_message_is_told_once_whatever_its_type(fields: dict[str, Any]) -> None:
    assert wrong_fields(fields) == ["message"]


def test_a_provider_that_is_not_configured_is_answered_with_those_that_are() -> None:
    error = refused(orjson.dumps({**BODY, "provider": "eai_agent_service"}))
    assert error.body.details[0].message == "is not configured here, takes one of google_agent_engine, openai"


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    error = refused(orjson.dumps({**BODY, "user_number": "hunter2", "callback_url": "hunter2", "metadata": "hunter2"}))
    assert "hunter2" not in f"{error.body}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is not JSON"),
        (b"{", "The body is not JSON"),
        (b"\xff\xfe", "The body is not JSON"),
        (b'{"message": NaN}', "The body is not JSON"),
        (b"[" * 100_000, "The body is not JSON"),
        (b"[]", "The body must be a JSON object"),
        (b'"Oi"', "The body must be a JSON object"),
        (b"null", "The body must be a JSON object"),
        (b"user_number=5521999990000", "The body is not JSON"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    assert refused(body).body.message.startswith(words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(WebhookRequest.model_fields)), JSON, max_size=8)


@given(st.binary(max_size=100) | JSON.map(orjson.dumps) | FIELDS.map(lambda fields: orjson.dumps({**BODY, **fields})))
@example(orjson.dumps({**BODY, "metadata": {"a": 2**63}}))
@example(b'{"user_number":"5521999990000","message":"x","metadata":{"a":18446744073709551616}}')
def test_any_body_is_either_taken_or_refused_with_400(body: bytes) -> None:
    try:
        status, message = 202, parse_webhook(body, RULES).message
    except HttpError as error:
        status, message = error.status, ""
    assert (status, message == message.strip()) in ((202, True), (400, True))


# What settings decide


@pytest.mark.parametrize("user", ["user_ab12cd34", "a", "A.b-c_d+e", "1234567", "x" * 64])
def test_a_predecessors_client_may_name_its_user_as_it_likes(user: str) -> None:
    assert parse({"user_number": user}, PREDECESSOR).user_number == user


def test_a_predecessors_client_may_also_send_a_number() -> None:
    assert parse({"user_number": "5521999990000"}, PREDECESSOR).user_number == "+5521999990000"


@pytest.mark.parametrize("user", ["", "x" * 65, "a b", "a/b", "ação", "a\n", "{a}", "a:b"])
def test_an_opaque_id_holds_nothing_that_could_break_out_of_a_key_or_path(user: str) -> None:
    assert wrong_fields({"user_number": user}, PREDECESSOR) == ["user_number"]


def test_a_callback_without_tls_is_taken_where_a_setting_allows_it() -> None:
    assert parse({"callback_url": "http://host/x"}, HTTP_CALLBACKS).callback_url == "http://host/x"
