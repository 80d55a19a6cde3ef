"""Any OpenAI-compatible chat endpoint. It has no memory, so we keep the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.errors import AgentBadResponse, AgentRefused
from eai_agent_router.json_api import JsonApi
from eai_agent_router.ports import Conversations
from eai_agent_router.shapes import OBJECT, Lenient, TurnStamp, explain_shape
from eai_common.clock import Clock, Deadline
from eai_common.messages import HistoryMessage, rfc3339
from eai_common.replies import AssistantMessage, UsageMetadata, UsageStatistics

__all__ = ["ChatOptions", "OpenAiChat", "cut_to_latest"]

_CHARACTERS_PER_TOKEN = 4
_ROLES = {"human": "user", "ai": "assistant"}


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Which model, and how much it is given to read."""

    model: str
    system_prompt: str = ""
    history_messages: int = 40
    history_tokens: int = 8000  # estimated


class _CompletionDetails(Lenient):
    reasoning_tokens: int | None = None


class _PromptDetails(Lenient):
    cached_tokens: int | None = None


class _Usage(Lenient):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    completion_tokens_details: Annotated[_CompletionDetails, OBJECT] = _CompletionDetails()
    prompt_tokens_details: Annotated[_PromptDetails, OBJECT] = _PromptDetails()

    @property
    def thoughts(self) -> int:
        return self.completion_tokens_details.reasoning_tokens or 0


class _Words(Lenient):
    content: str | None = None
    refusal: str | None = None


class _Choice(Lenient):
    message: _Words
    finish_reason: str | None = None


class _Completion(Lenient):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, OBJECT] = _Usage()


class OpenAiChat(Agent):
    """Answers from the latest part of the conversation; a turn is kept once it is answered, all of it or nothing."""

    def __init__(self, api: JsonApi, conversations: Conversations, options: ChatOptions, clock: Clock) -> None:
        self._api = api
        self._conversations = conversations
        self._options = options
        self._clock = clock

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        said = _list_messages(turn)
        known = await self._conversations.read(turn.thread_id, without=turn.message_id)
        answer = await self._api.post(
            "/chat/completions", self._request([*known, *said]), message_id=turn.message_id, deadline=deadline
        )
        agent_id = f"user_{turn.thread_id}"
        reply, statistics = _read_reply(answer, TurnStamp(turn.message_id, agent_id, self._clock.now()))
        spoken = HistoryMessage(content=reply.content, role="ai")
        await self._conversations.append(turn.thread_id, turn.message_id, (*said, spoken))
        return Answer((reply, statistics), agent_id)

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        await self._conversations.append(history.thread_id, history.message_id, history.messages)
        return {"messages": len(history.messages)}

    def _request(self, conversation: Sequence[HistoryMessage]) -> dict[str, JsonValue]:
        options = self._options
        shown = cut_to_latest(conversation, messages=options.history_messages, tokens=options.history_tokens)
        system: list[JsonValue] = (
            [{"role": "system", "content": options.system_prompt}] if options.system_prompt else []
        )
        said: list[JsonValue] = [{"role": _ROLES[one.role], "content": one.content} for one in shown]
        return {"model": options.model, "messages": [*system, *said]}


def cut_to_latest(conversation: Sequence[HistoryMessage], *, messages: int, tokens: int) -> Sequence[HistoryMessage]:
    """Return the end of the conversation, within both limits; the last message always, however long it is."""
    start, budget = len(conversation), tokens
    for number in range(len(conversation) - 1, max(-1, len(conversation) - 1 - messages), -1):
        budget -= -(-len(conversation[number].content) // _CHARACTERS_PER_TOKEN)
        if budget < 0 and start < len(conversation):
            break
        start = number
    return conversation[start:]


def _list_messages(turn: Turn) -> tuple[HistoryMessage, ...]:
    question = HistoryMessage(content=turn.text, role="human")
    if turn.previous_message is None:
        return (question,)
    return (HistoryMessage(content=turn.previous_message, role="ai"), question)


def _read_reply(answer: JsonValue, stamp: TurnStamp) -> tuple[AssistantMessage, UsageStatistics]:
    """Raises AgentRefused or AgentBadResponse."""
    try:
        completion = _Completion.model_validate(answer)
    except ValidationError as error:
        raise explain_shape(error, "the chat completion", answer) from error
    choice = completion.choices[0]
    content = choice.message.content or ""
    if not content.strip():
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise AgentRefused("the model refused, or a content filter took the answer")
        raise AgentBadResponse("the chat completion has no text for the user", answer=answer)
    reply = AssistantMessage(
        id=completion.id or f"{stamp.message_id}:0",
        model_name=completion.model,
        finish_reason=choice.finish_reason,
        usage_metadata=_convert_usage(completion.usage),
        content=content,
    )
    return reply, _sum_usage(completion, stamp)


def _convert_usage(usage: _Usage) -> UsageMetadata:
    return UsageMetadata(
        prompt_token_count=usage.prompt_tokens,
        candidates_token_count=max(0, usage.completion_tokens - usage.thoughts),
        total_token_count=usage.total_tokens,
        thoughts_token_count=usage.completion_tokens_details.reasoning_tokens,
        cached_content_token_count=usage.prompt_tokens_details.cached_tokens,
    )


def _sum_usage(completion: _Completion, stamp: TurnStamp) -> UsageStatistics:
    usage = completion.usage
    return UsageStatistics(
        completion_tokens=usage.completion_tokens,  # with the thoughts, as OpenAI counts
        thoughts_tokens=usage.thoughts,
        prompt_tokens=usage.prompt_tokens,
        total_tokens=usage.total_tokens,
        step_count=1,
        agent_id=stamp.agent_id,
        processed_at=rfc3339(stamp.received_at),
        model_names=[completion.model] if completion.model else [],
    )
