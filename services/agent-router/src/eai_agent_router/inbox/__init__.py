"""The agent router's work on users' inboxes: one turn of a user after the other. See docs/decisions/0017."""

from eai_agent_router.inbox.bench import WorkerRules
from eai_agent_router.inbox.worker import InboxWorker

__all__ = ["InboxWorker", "WorkerRules"]
