"""The sandbox's own routes: inject faults, read the calls and the conversations, forget the agents."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from starlette.routing import Route

from eai_sandbox.calls import CallLog, Target
from eai_sandbox.conversation import Threads
from eai_sandbox.faults import Fault, Faults
from eai_sandbox.http_edge import Answer, ReceivedRequest, detail_error, endpoint, parse
from eai_sandbox.refusal import Refused

__all__ = ["Control"]


class Control:
    """How a test controls the sandbox from outside its process."""

    def __init__(self, calls: CallLog, faults: Faults, threads: Threads, *, forget_agents: Callable[[], None]) -> None:
        self._calls = calls
        self._threads = threads
        self._faults = faults
        self._forget_agents = forget_agents

    @property
    def routes(self) -> list[Route]:
        """All routes under /sandbox."""
        handlers = (
            ("GET", "/sandbox/health", self.health),
            ("PUT", "/sandbox/faults", self.put_fault),
            ("GET", "/sandbox/faults", self.list_faults),
            ("DELETE", "/sandbox/faults", self.clear_faults),
            ("GET", "/sandbox/calls", self.list_calls),
            ("DELETE", "/sandbox/calls", self.clear_calls),
            ("GET", "/sandbox/threads", self.list_threads),
            ("DELETE", "/sandbox/agents", self.forget_agents),
        )
        return [Route(path, endpoint(handle, detail_error), methods=[method]) for method, path, handle in handlers]

    async def health(self, received: ReceivedRequest) -> Answer:
        """Always ok: the process answers."""
        return Answer({"status": "ok"})

    async def put_fault(self, received: ReceivedRequest) -> Answer:
        """Inject a fault; answers with all active faults."""
        self._faults.put(parse(Fault, received.body))
        return await self.list_faults(received)

    async def list_faults(self, received: ReceivedRequest) -> Answer:
        """The active faults."""
        return Answer({"faults": self._faults.as_json()})

    async def clear_faults(self, received: ReceivedRequest) -> Answer:
        """Remove every fault."""
        self._faults.clear()
        return Answer({"faults": []})

    async def list_calls(self, received: ReceivedRequest) -> Answer:
        """The recorded calls, oldest first, of a `?target=` or `?thread_id=`; `total` counts since the last DELETE."""
        query = received.request.query_params
        calls = self._calls.of(_target(query.get("target")), thread_id=query.get("thread_id"))
        return Answer({"calls": [call.as_json() for call in calls], "count": len(calls), "total": self._calls.total})

    async def clear_calls(self, received: ReceivedRequest) -> Answer:
        """Forget the calls."""
        self._calls.clear()
        return Answer({"calls": [], "count": 0, "total": 0})

    async def list_threads(self, received: ReceivedRequest) -> Answer:
        """Each conversation as a list of role and text, oldest first."""
        return Answer(
            {
                "threads": {
                    thread_id: [[message.role.value, message.text] for message in messages]
                    for thread_id, messages in self._threads.items()
                }
            }
        )

    async def forget_agents(self, received: ReceivedRequest) -> Answer:
        """Make the EAI Agent Service forget all of its agents."""
        self._forget_agents()
        return Answer({"agents": 0})


def _target(given: str | None) -> Target | None:
    if given is None:
        return None
    try:
        return Target(given)
    except ValueError as error:
        known = ", ".join(Target)
        raise Refused(f"target: got {given!r}, takes one of {known}", status=HTTPStatus.UNPROCESSABLE_ENTITY) from error
