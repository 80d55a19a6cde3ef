"""The messages that the sandbox declares for itself, held against Google's own."""

from __future__ import annotations

import pytest
from google.cloud.aiplatform_v1.types import reasoning_engine_execution_service as engine
from google.cloud.aiplatform_v1beta1.types import reasoning_engine_execution_service as engine_beta
from google.cloud.speech_v2.types import cloud_speech

from eai_sandbox.wire import DECLARED

KINDS = {5: "int32", 14: "int32", 9: "string", 12: "bytes", 2: "float"}  # an enum (14) travels as an int32 does


def kind_of(field: object) -> str:
    message = field.message_type  # type: ignore[attr-defined]
    kind = KINDS.get(field.type) or f".{message.full_name}"  # type: ignore[attr-defined]
    return kind + ("[]" if field.is_repeated else "")  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [cloud_speech, engine, engine_beta], ids=lambda module: module.__name__)
def test_every_declared_field_is_googles(module: object) -> None:
    for name in DECLARED.keys() & vars(module).keys():
        fields = getattr(module, name).pb().DESCRIPTOR.fields_by_name
        for field_name, (number, kind) in DECLARED[name].items():
            real = kind_of(fields[field_name])
            for package in ("google.cloud.speech.v2", "google.cloud.aiplatform.v1"):
                real = real.replace(package, "sandbox")
            assert (field_name, number, kind) == (field_name, fields[field_name].number, real)


def test_every_declared_message_is_in_one_of_googles_modules() -> None:
    assert not {name for name in DECLARED if not hasattr(cloud_speech, name) and not hasattr(engine, name)}
