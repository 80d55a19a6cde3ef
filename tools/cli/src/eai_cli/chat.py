"""`./eai chat`: a conversation in the terminal."""

from __future__ import annotations

import random

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from eai_cli.gateway import Gateway, GatewayError
from eai_cli.send import Message, ask

__all__ = ["run_chat"]

_WAIT_S = 300.0


def run_chat(gateway: Gateway, user: str | None, provider: str | None) -> int:
    """Send each line and print its answer, until an empty line; gives the exit code."""
    console = Console()
    user = user or f"+5521{random.SystemRandom().randrange(900000000, 999999999)}"
    console.print(f"You are {user}. An empty line or Ctrl-D ends the conversation.", style="dim", highlight=False)
    with gateway.client:
        while line := _read_line(console):
            _answer(gateway, Message(user, line, provider=provider), console)
    return 0


def _answer(gateway: Gateway, message: Message, console: Console) -> None:
    try:
        reply = ask(gateway, message, console, wait_s=_WAIT_S)
    except GatewayError as error:
        console.print(Text(str(error), style="red"))
        return
    except KeyboardInterrupt:
        console.print("stopped waiting", style="dim")
        return
    style = "green" if reply.is_completed else "red"
    title = "agent" if reply.is_completed else f"failed: {reply.body.get('error_code')}"
    console.print(Panel(Text(reply.text), title=title, title_align="left", border_style=style))


def _read_line(console: Console) -> str:
    try:
        return console.input("[bold cyan]you ›[/] ").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return ""
