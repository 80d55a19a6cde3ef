"""Every stage and every provider of the gateway, one line each.

All that must know of them is made from these lines: queues and bindings, the stage that an event enters, the modules
that a process loads, `/health`, the settings reference, the command line, and the values that `provider` may have.
Definitions are dotted names, so that nothing here imports a service. How to add a line: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Literal

__all__ = [
    "PROVIDERS",
    "STAGES",
    "ProviderEntry",
    "StageEntry",
    "bindings",
    "list_provider_names",
    "load_provider_definitions",
    "list_service_names",
    "services",
    "find_stage",
    "list_stages_passed",
]

_ANSWERED = "task.completed"
"""The event after which a message's answer can be fetched."""


@dataclass(frozen=True, slots=True)
class StageEntry:
    """A stage or, if it consumes nothing, a service that only answers HTTP.

    `definition` is the service that runs it; the first of a service's stages has the service's name. `emits` are the
    events that follow; every stage may emit `message.failed` besides.
    """

    name: str
    definition: str
    consumes: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()


ProviderKind = Literal["agent", "speech"]


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """A provider, by the name that it has in messages, settings, metrics and `/health`.

    `definition` is what the agent router opens; recognisers of speech have none, the transcriber knows them.
    """

    name: str
    kind: ProviderKind
    definition: str = ""


_TO_ROUTER = ("message.text", "message.transcribed", "transcription.failed", "history.update", "inbox.permit")
_TO_FORMATTER = ("agent.replied", "history.updated", "message.failed")

# In the order in which a message passes them.
STAGES: tuple[StageEntry, ...] = (
    StageEntry("ingress", "eai_ingress.service:INGRESS", (), ("message.text", "message.audio", "history.update")),
    StageEntry("transcriber", "eai_transcriber.service:TRANSCRIBER", ("message.audio",), ("message.transcribed",)),
    StageEntry(
        "agent-router", "eai_agent_router.service:AGENT_ROUTER", _TO_ROUTER, ("agent.replied", "history.updated")
    ),
    StageEntry("formatter", "eai_formatter.service:FORMATTER", _TO_FORMATTER, (_ANSWERED,)),
    StageEntry("callbacks", "eai_formatter.service:FORMATTER", (_ANSWERED,)),
    StageEntry("poller", "eai_poller.service:POLLER"),
)

PROVIDERS: tuple[ProviderEntry, ...] = (
    ProviderEntry("google_speech", "speech"),
    ProviderEntry("openai_speech", "speech"),
    ProviderEntry("google_agent_engine", "agent", "eai_agent_router.providers.google_agent_engine:PROVIDER"),
    ProviderEntry("eai_agent_service", "agent", "eai_agent_router.providers.eai_agent_service:PROVIDER"),
    ProviderEntry("openai", "agent", "eai_agent_router.providers.openai:PROVIDER"),
)


def bindings() -> Mapping[str, tuple[str, ...]]:
    """The routing keys of each stage's queue, by the stage's name."""
    return {stage.name: stage.consumes for stage in STAGES if stage.consumes}


def find_stage(event: str) -> str:
    """The stage that an event enters. Raises KeyError for an event that no stage consumes."""
    for stage in STAGES:
        if event in stage.consumes:
            return stage.name
    raise KeyError(event)


def list_stages_passed(event: str) -> tuple[str, ...]:
    """The stages that a message passes from this event on, until its answer can be fetched."""
    passed: dict[str, None] = {}
    events = [event]
    for following in events:  # grows while it is gone through
        for stage in STAGES:
            if following in stage.consumes and following != _ANSWERED and stage.name not in passed:
                passed[stage.name] = None
                events += stage.emits
    return tuple(passed)


def list_service_names() -> tuple[str, ...]:
    """The services, in the order in which a message passes them."""
    return tuple(_definitions().values())


def services() -> tuple[object, ...]:
    """The definition of each service, loaded now."""
    return tuple(map(resolve_name, _definitions()))


def list_provider_names(kind: ProviderKind | None = None) -> tuple[str, ...]:
    """The names of all providers, or of those of one kind."""
    return tuple(provider.name for provider in PROVIDERS if kind in (None, provider.kind))


def load_provider_definitions(kind: ProviderKind) -> Mapping[str, object]:
    """The definition of each provider of a kind by its name, loaded now."""
    return {provider.name: resolve_name(provider.definition) for provider in PROVIDERS if provider.kind == kind}


def _definitions() -> dict[str, str]:
    """The name of each service, by its definition."""
    names: dict[str, str] = {}
    for stage in STAGES:
        names.setdefault(stage.definition, stage.name)
    return names
