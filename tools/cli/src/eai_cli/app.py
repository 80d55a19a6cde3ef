"""The commands. Each imports its module when it is called, so that `./eai send` does not load what `up` needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app"]

app = typer.Typer(
    name="eai",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="The gateway between chat channels and AI agents: run it, talk to it, test it.",
)

BaseUrl = Annotated[str, typer.Option("--base-url", envvar="EAI_BASE_URL", help="URL of the gateway.")]
Token = Annotated[str, typer.Option("--token", envvar="EAI_TOKEN", help="API token, if the gateway requires one.")]
User = Annotated[str, typer.Option("--user", help="The user's number.")]
ProfileName = Literal["whatsapp", "plain", "telegram"]
_HERE = "http://127.0.0.1:8000"


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the gateway; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run all five services in this process until Ctrl-C.

    Without RABBITMQ_URL and REDIS_URL everything stays in memory; without GOOGLE_PROJECT_ID a local sandbox answers.
    """
    from eai_cli.up import run_up

    raise typer.Exit(run_up(host, port))


@app.command()
def send(
    text: Annotated[str, typer.Argument(help="What the user writes.", show_default=False)] = "",
    audio: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A recording to send instead.")
    ] = None,
    user: User = "+5521999990000",
    provider: Annotated[str | None, typer.Option(help="The agent's provider.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw result.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 300.0,
    base_url: BaseUrl = _HERE,
    token: Token = "",
) -> None:
    """Send one message, text or audio, wait for the answer and print it.

    Exit code 0: answered; 1: the message failed; 2: it was not accepted.
    """
    from eai_cli.gateway import Gateway
    from eai_cli.send import Message, run_send

    if bool(text.strip()) == (audio is not None):
        raise typer.BadParameter("give either a text or --audio FILE")
    message = Message(user, text, audio, provider)
    raise typer.Exit(run_send(Gateway(base_url, token), message, as_json=as_json, wait_s=wait))


@app.command()
def chat(
    user: Annotated[str | None, typer.Option(help="The user's number; by default a new one each time.")] = None,
    provider: Annotated[str | None, typer.Option(help="The agent's provider.")] = None,
    base_url: BaseUrl = _HERE,
    token: Token = "",
) -> None:
    """Talk with the agent. An empty line or Ctrl-D ends the conversation."""
    from eai_cli.chat import run_chat
    from eai_cli.gateway import Gateway

    raise typer.Exit(run_chat(Gateway(base_url, token), user, provider))


@app.command("format")
def format_(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A Markdown file; stdin by default.")
    ] = None,
    profile: Annotated[ProfileName, typer.Option(help="The channel to format for.")] = "whatsapp",
    limit: Annotated[int, typer.Option(min=16, help="Maximum characters in one message.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="The pieces as one JSON list.")] = False,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Per line one JSON string in, one JSON list of pieces out.")
    ] = False,
) -> None:
    """Show the messages that an agent's Markdown becomes."""
    from eai_cli.format_text import run_format

    raise typer.Exit(run_format(file, profile=profile, limit=limit, as_json=as_json, as_jsonl=as_jsonl))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def test(context: typer.Context) -> None:
    """Run the tests on private RabbitMQ and Redis servers; everything after `test` goes to pytest."""
    from eai_cli.run_tests import run_tests

    raise typer.Exit(run_tests(context.args))


@app.command()
def manifests(
    check: Annotated[bool, typer.Option("--check", help="Only name the files that lack a stage.")] = False,
) -> None:
    """Add new stages of the registry to Compose, Kubernetes and the build."""
    from eai_cli.manifests import run_manifests

    raise typer.Exit(run_manifests(check=check))


@app.command()
def config(
    check: Annotated[bool, typer.Option("--check", help="Report every invalid setting of the environment.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/configuration.md.")] = False,
) -> None:
    """List every setting with its variable, values and default."""
    from eai_cli.configuration import run_config

    raise typer.Exit(run_config(check=check, markdown=markdown))
