"""An OpenAI-compatible server: chat and transcription, without streaming (source: OpenAI API reference)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.routing import Route

from eai_sandbox.brain import Brain, IncomingMessage
from eai_sandbox.calls import Call, Target
from eai_sandbox.conversation import Message, Role, Usage
from eai_sandbox.faults import Gate
from eai_sandbox.http_edge import Answer, ReceivedRequest, endpoint, openai_error, parse
from eai_sandbox.jsontype import JsonObject
from eai_sandbox.multipart import form_parts
from eai_sandbox.recognizer import AudioTooLong, Recognizer, Transcript, Undecodable
from eai_sandbox.refusal import Refused

__all__ = ["OpenAiApi"]

_MAX_FILE_BYTES = 25 * 1024 * 1024  # source: OpenAI API reference, "File uploads are currently limited to 25 MB"
_MAX_DURATION = timedelta(minutes=10)  # ours: a minute of speech takes up to half a minute of CPU


class _Part(BaseModel):
    type: str
    text: str = ""


class _ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _Chat(BaseModel):
    model: str
    messages: list[_ChatMessage] = Field(min_length=1)
    stream: bool = False
    user: str | None = None

    @property
    def incoming(self) -> list[IncomingMessage]:
        roles = {"user": Role.HUMAN, "assistant": Role.AI}
        return [IncomingMessage(roles[one.role], one.text) for one in self.messages if one.role in roles]


class OpenAiApi:
    """Stateless, like the real one: the conversation is the one in the request."""

    def __init__(
        self, gate: Gate, brain: Brain, recognizer: Recognizer, *, key: str | None, now: Callable[[], datetime]
    ) -> None:
        self._gate = gate
        self._brain = brain
        self._recognizer = recognizer
        self._key = key
        self._now = now

    @property
    def routes(self) -> list[Route]:
        """Chat and transcription."""
        handlers = (("/v1/chat/completions", self.chat), ("/v1/audio/transcriptions", self.transcribe))
        return [
            Route(path, endpoint(handle, openai_error, token=self._key), methods=["POST"]) for path, handle in handlers
        ]

    async def chat(self, received: ReceivedRequest) -> Answer:
        """The assistant's next message; its tool calls are not shown. Raises Refused."""
        chat = parse(_Chat, received.body)
        if chat.stream:
            raise Refused("The sandbox does not stream; set `stream` to false.")
        incoming = chat.incoming
        content = incoming[-1].text if incoming else ""
        call = Call(
            Target.OPENAI, "http", "chat/completions", content, thread_id=chat.user, message_id=_message_id(received)
        )
        async with self._gate.admit(call) as admitted:
            try:
                turn = self._brain.reply(incoming)
            except ValueError as error:
                raise Refused(str(error)) from error
            return Answer(self._completion(chat.model, turn), admitted.is_malformed)

    async def transcribe(self, received: ReceivedRequest) -> Answer:
        """The words of a file as `{"text": …}`, with times if response_format is verbose_json. Raises Refused."""
        form = form_parts(received.request.headers.get("content-type", ""), received.body)
        for name in ("file", "model"):
            if not form.get(name):
                raise Refused(f"Missing required parameter: '{name}'.")
        if len(form["file"]) > _MAX_FILE_BYTES:
            raise Refused("Maximum content size limit (26214400) exceeded.", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        content = " ".join(form[name].decode(errors="replace") for name in ("model", "language") if name in form)
        call = Call(Target.OPENAI, "http", "audio/transcriptions", content, message_id=_message_id(received))
        async with self._gate.admit(call) as admitted:
            transcript = await self._transcript_of(form["file"])
            is_verbose = form.get("response_format") == b"verbose_json"
            return Answer(_verbose(transcript) if is_verbose else {"text": transcript.text}, admitted.is_malformed)

    async def _transcript_of(self, content: bytes) -> Transcript:
        try:
            return await self._recognizer.recognize(content, limit=_MAX_DURATION)
        except AudioTooLong as error:
            raise Refused(f"Audio is longer than {_MAX_DURATION.total_seconds():g} seconds.") from error
        except Undecodable as error:
            raise Refused("Audio file might be corrupted or unsupported") from error

    def _completion(self, model: str, turn: tuple[Message, ...]) -> JsonObject:
        total = sum((message.usage for message in turn if message.usage), Usage(0, 0))
        message = {"role": "assistant", "content": turn[-1].text, "refusal": None}
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "created": int(self._now().timestamp()),
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": total.prompt,
                "completion_tokens": total.completion + total.thoughts,
                "total_tokens": total.total,
                "completion_tokens_details": {"reasoning_tokens": total.thoughts},
            },
        }


def _message_id(received: ReceivedRequest) -> str | None:
    return received.request.headers.get("x-message-id") or received.request.headers.get("x-request-id")


def _verbose(transcript: Transcript) -> JsonObject:
    return {
        "task": "transcribe",
        "language": "english",
        "duration": transcript.duration.total_seconds(),
        "text": transcript.text,
        "segments": [
            {"id": number, "end": segment.end.total_seconds(), "text": segment.text}
            for number, segment in enumerate(transcript.segments)
        ],
    }
