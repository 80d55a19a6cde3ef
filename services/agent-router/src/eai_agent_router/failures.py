"""The table that maps a provider's failure to an error.

Sources: Google Cloud, "Agent Platform API errors", and google/rpc/code.proto (canonical codes, their HTTP statuses); an
agent whose own code crashes comes as FAILED_PRECONDITION "Reasoning Engine Execution failed", an engine that is down
as INVALID_ARGUMENT "failed to start" (googleapis/python-aiplatform, issues 5458 and 5756); OpenAI, "Error codes"; for
what is left, RFC 9110.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from eai_agent_router.errors import (
    AgentBadRequest,
    AgentBadResponse,
    AgentCrashed,
    AgentInputTooLong,
    AgentNotFound,
    AgentQuotaSpent,
    AgentRateLimited,
    AgentRefused,
    AgentTimeout,
    AgentUnauthorized,
    AgentUnavailable,
)
from eai_common.errors import Permanent, Retriable

__all__ = ["CANONICAL_CODES", "GOOGLE", "OPENAI", "RULES", "Failure", "Rule", "make_error", "classify"]

ErrorKind = type[Retriable] | type[Permanent]


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider's failure as it came."""

    provider: str
    status: int | None = None  # HTTP
    code: str | None = None  # Google's canonical name, or the provider's own error code
    message: str = ""  # the provider's words: to judge by, never to show
    retry_after: timedelta | None = None

    @property
    def words_without_request(self) -> str:
        """The message without the request, which Agent Engine repeats at the end: a user may write "quota"."""
        return self.message.partition("Request Data:")[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """Failures that map to one error. An empty field matches everything; of `codes` and `statuses` one is enough."""

    error: ErrorKind
    hint: str  # for the operator
    provider: str | None = None
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    words: re.Pattern[str] | None = None

    def matches(self, failure: Failure) -> bool:
        if self.provider not in (None, failure.provider):
            return False
        if (self.codes or self.statuses) and failure.code not in self.codes and failure.status not in self.statuses:
            return False
        return self.words is None or self.words.search(failure.words_without_request) is not None


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


def _statuses(*statuses: int | range) -> frozenset[int]:
    return frozenset(number for item in statuses for number in (item if isinstance(item, range) else (item,)))


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


GOOGLE, OPENAI = "google_agent_engine", "openai"
_INVALID = _codes("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE")
_TOO_LONG = _compile(
    r"(input|prompt|context|token).{0,80}(exceed|too (long|large|many)|maximum)" r"|exceed.{0,80}token|maximum context"
)
_BLOCKED = _compile(r"safety|blocked|prohibited[_ ]content|content[_ ]?(filter|policy)")
_CRASH = "reasoning engine execution failed|agent engine error"

RULES: tuple[Rule, ...] = (
    # A provider's own codes and words say more than its HTTP status, so they come first.
    Rule(AgentInputTooLong, "too long for the model", OPENAI,
         _codes("context_length_exceeded", "string_above_max_length")),
    Rule(AgentRefused, "a content filter", OPENAI, _codes("content_filter", "content_policy_violation")),
    Rule(AgentUnavailable, "the account is out of credit", OPENAI, _codes("insufficient_quota")),
    Rule(AgentUnavailable, "the engine does not start, see its logs", GOOGLE,
         words=_compile("failed to start and cannot")),
    # The agent ran and crashed: mostly a model or a database under it, which passes, and the retries are few.
    Rule(AgentQuotaSpent, "the model under the agent is out of quota", GOOGLE,
         words=_compile(rf"({_CRASH}).*(resource[_ ]?exhausted|\b429\b|quota)")),
    Rule(AgentInputTooLong, "the thread is too long for the model", GOOGLE,
         words=_compile(rf"({_CRASH}).*({_TOO_LONG.pattern})")),
    Rule(AgentCrashed, "the agent's own code failed, see its logs", GOOGLE, words=_compile(_CRASH)),
    Rule(AgentInputTooLong, "too long for the model", codes=_INVALID, statuses=_statuses(400, 422), words=_TOO_LONG),
    Rule(AgentRefused, "blocked by a safety filter", codes=_INVALID, statuses=_statuses(400, 422), words=_BLOCKED),
    Rule(AgentInputTooLong, "the body is too large", statuses=_statuses(413)),
    Rule(AgentUnauthorized, "check the credentials and their roles",
         codes=_codes("UNAUTHENTICATED", "PERMISSION_DENIED"), statuses=_statuses(401, 403, 407)),
    Rule(AgentNotFound, "no such engine, agent or model", codes=_codes("NOT_FOUND"), statuses=_statuses(404, 410)),
    Rule(AgentTimeout, "it gave up waiting", codes=_codes("DEADLINE_EXCEEDED"), statuses=_statuses(408, 504)),
    Rule(AgentRateLimited, "too many calls", codes=_codes("RESOURCE_EXHAUSTED"), statuses=_statuses(429)),
    Rule(AgentUnavailable, "the account is out of credit", statuses=_statuses(402)),
    Rule(AgentUnavailable, "a conflict that passes",
         codes=_codes("ABORTED", "CANCELLED"), statuses=_statuses(409, 423, 425, 499)),
    Rule(AgentBadRequest, "no such method there", codes=_codes("UNIMPLEMENTED"), statuses=_statuses(405, 501)),
    Rule(AgentUnavailable, "it is down or overloaded", codes=_codes("UNAVAILABLE"), statuses=_statuses(503)),
    Rule(AgentCrashed, "it failed",
         codes=_codes("INTERNAL", "UNKNOWN", "DATA_LOSS"), statuses=_statuses(range(500, 600))),
    Rule(AgentBadRequest, "it does not accept the request",
         codes=_INVALID | _codes("ALREADY_EXISTS"), statuses=_statuses(range(400, 500))),
    Rule(AgentBadResponse, "a redirect, which is not followed; check the address", statuses=_statuses(range(300, 400))),
    Rule(AgentCrashed, "a failure of no known kind"),
)  # fmt: skip
"""The first rule that matches decides; the last matches everything."""

CANONICAL_CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 10: "ABORTED", 11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip
"""The numbers of google/rpc/code.proto, as an operation's error gives them."""


def classify(failure: Failure) -> ErrorKind:
    """Return the kind of error that the failure is."""
    return _find_rule(failure).error


def make_error(failure: Failure) -> Retriable | Permanent:
    """Return the error to raise for the failure; raise it `from` the client library's own."""
    rule = _find_rule(failure)
    came = " ".join(str(part) for part in (failure.status, failure.code) if part) or "without a status"
    text = f"{failure.provider} failed ({came}): {rule.hint}"
    if issubclass(rule.error, Retriable):
        return rule.error(text, retry_after=failure.retry_after)
    return rule.error(text)


def _find_rule(failure: Failure) -> Rule:
    return next(rule for rule in RULES if rule.matches(failure))
