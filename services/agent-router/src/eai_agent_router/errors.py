"""The errors of an agent, as types that say what to do next.

Clients, metrics and the texts for users depend on `error_code`. No text holds what the user or the agent said, nor a
token.
"""

from __future__ import annotations

from eai_common.errors import Deferred, Permanent, Retriable, StageError

__all__ = [
    "AgentBadRequest",
    "AgentBadResponse",
    "AgentConnectionLost",
    "AgentCrashed",
    "AgentInputTooLong",
    "AgentNotFound",
    "AgentOutcomeUnknown",
    "AgentQuotaSpent",
    "AgentRateLimited",
    "AgentRefused",
    "AgentTimeout",
    "AgentUnauthorized",
    "AgentUnavailable",
    "ProviderNotConfigured",
    "TranscriptLost",
    "is_sure",
]


class AgentTimeout(Retriable):
    """No answer before the deadline. The provider may have processed the question."""

    error_code = "AGENT_TIMEOUT"


class AgentUnavailable(Retriable):
    """The provider is down, overloaded, out of reach, or its agent crashed on the way."""

    error_code = "AGENT_UNAVAILABLE"


class AgentConnectionLost(AgentUnavailable):
    """The connection broke after the question may have been sent. The provider may have processed it."""


class AgentCrashed(AgentUnavailable):
    """The provider, or its agent, failed in the middle. It may have worked on the question all the same."""


class AgentRateLimited(Retriable):
    """The provider wants fewer calls; `retry_after` is the pause that it asks for, if it does."""

    error_code = "AGENT_RATE_LIMITED"


class AgentQuotaSpent(AgentRateLimited):
    """The model under the agent has no quota left. The agent has begun with the question."""


class AgentUnauthorized(Retriable):
    """Our credentials were refused.

    Retriable, because it is never the message's fault: a key rotation ends, or an IAM binding spreads, within minutes,
    and a message that waits through the retries gets an answer instead of an apology.
    """

    error_code = "AGENT_UNAUTHORIZED"


class AgentRefused(Permanent):
    """A safety filter blocked the question or the answer."""

    error_code = "AGENT_REFUSED"


class AgentBadRequest(Permanent):
    """The provider, or our own check before it, does not accept the request."""

    error_code = "AGENT_BAD_REQUEST"


class AgentInputTooLong(Permanent):
    """The message, or the thread with it, is more than the model takes."""

    error_code = "AGENT_INPUT_TOO_LONG"


class AgentNotFound(Permanent):
    """There is no such engine, agent or model."""

    error_code = "AGENT_NOT_FOUND"


class AgentOutcomeUnknown(Permanent):
    """The agent was asked before and may have answered, and this deployment does not ask twice."""

    error_code = "AGENT_OUTCOME_UNKNOWN"


class AgentBadResponse(Permanent):
    """The provider's answer has an unknown shape. `answer` goes into the dead letter, masked."""

    error_code = "AGENT_BAD_RESPONSE"

    def __init__(self, text: str, *, answer: object = None) -> None:
        super().__init__(text)
        self.evidence = answer


class ProviderNotConfigured(Permanent):
    """The message names a provider that is not configured."""

    error_code = "AGENT_PROVIDER_NOT_CONFIGURED"


class TranscriptLost(Permanent):
    """A voice message has waited for its transcript for longer than a transcription can take."""

    error_code = "TRANSCRIPTION_ERROR"


def is_sure(error: StageError) -> bool:
    """Whether the error says that the agent has done nothing about the question."""
    if isinstance(error, AgentConnectionLost | AgentCrashed | AgentQuotaSpent):
        return False
    return isinstance(error, Deferred | AgentUnavailable | AgentRateLimited | AgentUnauthorized | AgentNotFound)
