"""The protobuf messages that the sandbox speaks, declared here with only the fields that it uses.

Google's own classes take seconds and 100 MB to import, and a stand-in that shares its encoding with the client under
test cannot find an error in it. A test compares these numbers and types with the real descriptors. They live in a pool
of their own, so that one process can load both. v1 and v1beta1 have the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, json_format, message_factory, struct_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from eai_sandbox.jsontype import Json, JsonObject
from eai_sandbox.recognizer import Linear16, Segment
from eai_sandbox.refusal import Refused

__all__ = [
    "DECLARED",
    "QueryRequest",
    "RecognizeRequest",
    "Result",
    "decode_query",
    "decode_recognize",
    "encode_query_output",
    "encode_recognized",
    "retry_info",
]

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
}

# Message, field, number, type; "[]" behind a type means repeated. An enum travels as an int32 does.
# Sources: google/cloud/speech/v2/cloud_speech.proto, …/aiplatform/v1/reasoning_engine_execution_service.proto.
DECLARED: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "AutoDetectDecodingConfig": {},
    "ExplicitDecodingConfig": {
        "encoding": (1, "int32"),
        "sample_rate_hertz": (2, "int32"),
        "audio_channel_count": (3, "int32"),
    },
    "RecognitionConfig": {
        "auto_decoding_config": (7, ".sandbox.AutoDetectDecodingConfig"),
        "explicit_decoding_config": (8, ".sandbox.ExplicitDecodingConfig"),
        "model": (9, "string"),
        "language_codes": (10, "string[]"),
    },
    "RecognizeRequest": {
        "recognizer": (3, "string"),
        "config": (1, ".sandbox.RecognitionConfig"),
        "content": (5, "bytes"),
        "uri": (6, "string"),
    },
    "SpeechRecognitionAlternative": {"transcript": (1, "string"), "confidence": (2, "float")},
    "SpeechRecognitionResult": {
        "alternatives": (1, ".sandbox.SpeechRecognitionAlternative[]"),
        "result_end_offset": (4, ".google.protobuf.Duration"),
        "language_code": (5, "string"),
    },
    "RecognitionResponseMetadata": {
        "request_id": (9, "string"),
        "total_billed_duration": (6, ".google.protobuf.Duration"),
    },
    "RecognizeResponse": {
        "results": (3, ".sandbox.SpeechRecognitionResult[]"),
        "metadata": (2, ".sandbox.RecognitionResponseMetadata"),
    },
    "QueryReasoningEngineRequest": {
        "name": (1, "string"),
        "input": (2, ".google.protobuf.Struct"),
        "class_method": (3, "string"),
    },
    "QueryReasoningEngineResponse": {"output": (1, ".google.protobuf.Value")},
}


def _classes() -> Mapping[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(name="eai_sandbox.proto", package="sandbox", syntax="proto3")
    for name, fields in DECLARED.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            message.field.append(_declared_field(field_name, number, kind))
    pool = descriptor_pool.DescriptorPool()
    for known in (duration_pb2, struct_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        file.dependency.append(known.DESCRIPTOR.name)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"sandbox.{name}")) for name in DECLARED}


def _declared_field(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    is_repeated = kind.endswith("[]")
    kind = kind.removesuffix("[]")
    declared = _Field(name=name, number=number)
    declared.label = _Field.LABEL_REPEATED if is_repeated else _Field.LABEL_OPTIONAL
    if kind in _SCALARS:
        declared.type = _SCALARS[kind]
    else:
        declared.type, declared.type_name = _Field.TYPE_MESSAGE, kind
    return declared


_CLASSES = _classes()  # 1 ms


@dataclass(frozen=True, slots=True)
class RecognizeRequest:
    """A request to `Speech/Recognize`."""

    recognizer: str
    content: bytes
    uri: str
    language_codes: tuple[str, ...]
    has_decoding_config: bool
    linear16: Linear16 | None  # the format of headerless samples; None if the content has a header


@dataclass(frozen=True, slots=True)
class Result:
    """An answer of `Speech/Recognize`."""

    segments: Sequence[Segment]
    language_code: str
    billed: timedelta
    request_id: str
    is_malformed: bool = False  # results without alternatives


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A query to a Reasoning Engine, over either protocol."""

    name: str
    class_method: str
    input: JsonObject
    metadata: Mapping[str, str] = field(default_factory=dict)  # gRPC metadata or HTTP headers, names in small letters


def decode_recognize(body: bytes) -> RecognizeRequest:
    """Read a RecognizeRequest. Raises Refused if it is not one."""
    request = _parsed("RecognizeRequest", body)
    explicit = request.config.explicit_decoding_config
    is_linear16 = explicit.encoding == 1 and not request.content.startswith(b"RIFF")
    return RecognizeRequest(
        recognizer=request.recognizer,
        content=request.content,
        uri=request.uri,
        language_codes=tuple(request.config.language_codes),
        has_decoding_config=any(
            request.config.HasField(name) for name in ("auto_decoding_config", "explicit_decoding_config")
        ),
        linear16=Linear16(explicit.sample_rate_hertz, explicit.audio_channel_count or 1) if is_linear16 else None,
    )


def encode_recognized(result: Result) -> bytes:
    """Write a RecognizeResponse."""
    response = _CLASSES["RecognizeResponse"]()
    response.metadata.request_id = result.request_id
    response.metadata.total_billed_duration.FromTimedelta(result.billed)
    for segment in result.segments:
        one = response.results.add(language_code=result.language_code)
        one.result_end_offset.FromTimedelta(segment.end)
        if not result.is_malformed:
            one.alternatives.add(transcript=segment.text, confidence=segment.confidence)
    return bytes(response.SerializeToString())


def decode_query(body: bytes, metadata: Mapping[str, str]) -> QueryRequest:
    """Read a QueryReasoningEngineRequest. Raises Refused if it is not one."""
    request = _parsed("QueryReasoningEngineRequest", body)
    return QueryRequest(request.name, request.class_method, json_format.MessageToDict(request.input), metadata)


def encode_query_output(output: Json) -> bytes:
    """Write a QueryReasoningEngineResponse; whole numbers become doubles, because Value has no integers."""
    response = _CLASSES["QueryReasoningEngineResponse"]()
    json_format.ParseDict(output, response.output)  # type: ignore[arg-type]  # a Value takes any JSON
    return bytes(response.SerializeToString())


def retry_info(code: int, text: str, delay: timedelta) -> bytes:
    """A google.rpc.Status with a RetryInfo: the value of the `grpc-status-details-bin` trailer."""
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromTimedelta(delay)
    status = status_pb2.Status(code=code, message=text)
    status.details.add().Pack(info)
    return bytes(status.SerializeToString())


def _parsed(name: str, body: bytes) -> Any:
    message = _CLASSES[name]()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Refused(f"the request is not a {name}") from error
    return message
