"""What is kept in Redis: a message's status and result, a stage's checkpoints, a user's thread.

| key | value | lives |
|---|---|---|
| `task:{id}` | result, JSON as the poller returns it | TASK_RESULT_TTL |
| `task:status:{id}` | hash: status, stage, attempts, times, tries | TASK_PROCESSING_TTL, then TASK_STATUS_TTL |
| `checkpoint:{id}:<stage>` | `lease:<owner>`, `done:<outcome>`, `gone:` | CHECKPOINT_LEASE, then CHECKPOINT_TTL |
| `attempt:{id}:<provider>` | who asked the provider, until it is certain that nothing came of it | CHECKPOINT_TTL |
| `thread:{+phone}` | hash: thread_id, user_id, created_at, last_used, message_count, counted | AGENT_ID_CACHE_TTL |
| `conversation:{+phone}` | list: the last turns with a model that has no memory | AGENT_ID_CACHE_TTL |
| `mailbox:{+phone}` | sorted set: ids of the user's messages that have not ended, in order | TASK_PROCESSING_TTL |
| `mailbox:notes:{+phone}` | hash: what is known about them, see `mailboxes` | TASK_PROCESSING_TTL |
| `agent:id:{+phone}` | the user's agent at the EAI Agent Service | AGENT_ID_CACHE_TTL |
| `ratelimit:{<subject>}` | sorted set: microseconds at which each place was taken | the longest window, and a second |
| `user:last_activity:{+phone}` | when the user last wrote, RFC 3339 | LAST_ACTIVITY_TTL |
| `transcript:{<digest>}` | JSON: what was heard; the digest is of audio and listener | TRANSCRIPT_CACHE_TTL |
| `idem:<client>:<key>` | hash: which message an Idempotency-Key stands for, how far it is | IDEMPOTENCY_TTL |
| `latency:<type>` | list: of the last 100 completed messages, `<milliseconds>@<when>` | an hour |
| `health:board` | hash: each process's health report | three times HEALTH_CHECK_INTERVAL |

The braces are part of the key: they are its hash tag, so that the keys of one message share a slot in Redis Cluster.

One pub/sub channel, `wakeups`: `F<id>` when a message has ended, `M<id>` when it has come to another stage.
"""

from eai_common.store.activity import Activity, ActivityStore
from eai_common.store.attempts import AttemptStore
from eai_common.store.batch import CommandBatcher, open_batcher
from eai_common.store.callback_log import CallbackLog, CallbackState, CallbackTry
from eai_common.store.checkpoints import (
    Abandoned,
    Acquired,
    Checkpoints,
    Claim,
    Completed,
    Locked,
    Progress,
)
from eai_common.store.client import (
    PoolUse,
    Redis,
    RedisClient,
    open_client,
    open_memory_redis,
    open_redis,
    pool_use,
)
from eai_common.store.commands import Command, Reply, Request, Script, command, together, together_all
from eai_common.store.conversations import ConversationStore
from eai_common.store.errors import StoreUnavailable
from eai_common.store.idempotency import (
    FirstUse,
    IdempotencyClaim,
    IdempotencyStore,
    Kept,
    KeyReused,
    KeyUse,
    Promise,
    TakenOver,
    UnderWay,
)
from eai_common.store.latency import Completion, LatencyStore
from eai_common.store.mailboxes import Mailboxes
from eai_common.store.scripts import Call
from eai_common.store.sliding_window import SlidingWindow
from eai_common.store.tasks import FailedTry, TaskStatus, TaskStore, TaskView
from eai_common.store.threads import AgentIdCache, ThreadStore
from eai_common.store.transcripts import KeptTranscript, TranscriptStore
from eai_common.store.wakeups import Wakeups, Watch, open_wakeups

__all__ = [
    "UnderWay",
    "TakenOver",
    "Promise",
    "Kept",
    "KeyUse",
    "KeyReused",
    "IdempotencyStore",
    "IdempotencyClaim",
    "FirstUse",
    "Activity",
    "ActivityStore",
    "AgentIdCache",
    "AttemptStore",
    "Call",
    "CallbackLog",
    "CallbackState",
    "CallbackTry",
    "Checkpoints",
    "Claim",
    "Command",
    "CommandBatcher",
    "Completion",
    "ConversationStore",
    "Abandoned",
    "FailedTry",
    "Locked",
    "KeptTranscript",
    "LatencyStore",
    "Mailboxes",
    "Acquired",
    "Progress",
    "PoolUse",
    "Completed",
    "Redis",
    "RedisClient",
    "Reply",
    "Request",
    "command",
    "open_client",
    "together",
    "together_all",
    "Script",
    "SlidingWindow",
    "StoreUnavailable",
    "TaskStatus",
    "TaskStore",
    "TaskView",
    "ThreadStore",
    "TranscriptStore",
    "open_batcher",
    "Wakeups",
    "Watch",
    "open_memory_redis",
    "open_redis",
    "open_wakeups",
    "pool_use",
]
