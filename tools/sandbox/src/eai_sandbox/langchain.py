"""Messages as LangChain dumps them, which is how an Agent Engine answers (source: langchain_core.messages)."""

from __future__ import annotations

from eai_sandbox.conversation import MODEL_NAME, Message, Role, Usage
from eai_sandbox.jsontype import Json, JsonObject

__all__ = ["langchain_message"]


def langchain_message(message: Message) -> JsonObject:
    """One message; an ai message that the sandbox made carries its usage, one from recorded history does not."""
    common: dict[str, Json] = {
        "content": _content(message),
        "additional_kwargs": {},
        "response_metadata": _response_metadata(message),
        "type": message.role.value,
        "name": None,
        "id": message.message_id,
    }
    if message.role is Role.AI:
        return common | _of_ai(message)
    if message.role is Role.TOOL and message.tool_call is not None:
        answered = {"name": message.tool_call.name, "tool_call_id": message.tool_call.call_id}
        return common | answered | {"artifact": None, "status": "success"}
    return common | {"example": False}


def _content(message: Message) -> Json:
    if message.thinking is None:
        return message.text
    return [{"type": "thinking", "thinking": message.thinking}, {"type": "text", "text": message.text}]


def _of_ai(message: Message) -> dict[str, Json]:
    call = message.tool_call
    calls: Json = [{"name": call.name, "args": call.arguments, "id": call.call_id, "type": "tool_call"}] if call else []
    usage = message.usage
    return {
        "example": False,
        "tool_calls": calls,
        "invalid_tool_calls": [],
        "usage_metadata": _langchain_usage(usage) if usage else None,
    }


def _langchain_usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion + usage.thoughts,
        "total_tokens": usage.total,
        "input_token_details": {"cache_read": 0},
        "output_token_details": {"reasoning": usage.thoughts},
    }


def _response_metadata(message: Message) -> JsonObject:
    if message.usage is None:
        return {}
    return {
        "finish_reason": "STOP",
        "model_name": MODEL_NAME,
        "avg_logprobs": -0.1,
        "usage_metadata": {
            "prompt_token_count": message.usage.prompt,
            "candidates_token_count": message.usage.completion,
            "total_token_count": message.usage.total,
            "thoughts_token_count": message.usage.thoughts,
            "cached_content_token_count": 0,
        },
    }
