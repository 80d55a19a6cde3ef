"""`./eai send`: one message, one answer."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from eai_cli.gateway import Gateway, GatewayError, Reply
from eai_cli.recording import serve_recording

__all__ = ["Message", "ask", "run_send"]

_ANSWERED, _FAILED, _NOT_ACCEPTED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Message:
    """A text or a recording to send."""

    user: str
    text: str
    audio: Path | None = None
    provider: str | None = None


def run_send(gateway: Gateway, message: Message, *, as_json: bool, wait_s: float) -> int:
    """Print the answer to stdout and the rest to stderr; gives the exit code."""
    console = Console(stderr=True)
    try:
        with gateway.client:
            reply = ask(gateway, message, console, wait_s=wait_s)
    except GatewayError as error:
        console.print(Text(f"eai send: {error}", style="red"))
        return _NOT_ACCEPTED
    if as_json:
        sys.stdout.write(reply.raw + "\n")
    else:
        show(reply, console)
    return _ANSWERED if reply.is_completed else _FAILED


def ask(gateway: Gateway, message: Message, console: Console, *, wait_s: float) -> Reply:
    """Post and wait, with a spinner that names the message's stage. Raises GatewayError."""
    with ExitStack() as stack:
        text, message_type = message.text, None  # without a type, the gateway detects it
        if message.audio is not None:
            text, message_type = stack.enter_context(serve_recording(message.audio)), "audio"
        status = stack.enter_context(console.status("sending"))
        message_id = gateway.post(message.user, text, message_type=message_type, provider=message.provider)
        return gateway.wait_for_reply(message_id, wait_s=wait_s, on_stage=lambda stage: status.update(f"in {stage} …"))


def show(reply: Reply, console: Console) -> None:
    """Print the transcript, if there is one, and the text for the user."""
    if reply.transcript is not None:
        console.print(Text(f"heard: {reply.transcript}", style="dim"))
    if not reply.is_completed:
        console.print(Text(f"failed: {reply.body.get('error_code')}: {reply.body.get('error')}", style="red"))
    sys.stdout.write(reply.text + "\n")
