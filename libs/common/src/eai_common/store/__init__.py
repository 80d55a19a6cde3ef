"""What is kept in Redis: a message's status and result, a stage's checkpoints, what several services know of a user.

| key | value | lives |
|---|---|---|
| `task:{id}` | result, JSON as the poller returns it | TASK_RESULT_TTL |
| `task:status:{id}` | hash: status, stage, attempts, times, tries | TASK_PROCESSING_TTL, then TASK_STATUS_TTL |
| `checkpoint:{id}:<stage>` | `lease:<owner>`, `done:<outcome>` | CHECKPOINT_LEASE, then CHECKPOINT_TTL |
| `thread:{+phone}` | hash: thread_id, user_id, created_at, last_used, message_count, counted | AGENT_ID_CACHE_TTL |
| `conversation:{+phone}` | list: the last turns with a model that has no memory | AGENT_ID_CACHE_TTL |
| `inbox:{+phone}` | hash: a user's messages that have not ended, see `eai_common.turns` | TASK_PROCESSING_TTL |
| `ended:{+phone}:<id>` | which run of the message was the last that has ended | TASK_PROCESSING_TTL |
| `agent:id:{+phone}` | the user's agent at the EAI Agent Service | AGENT_ID_CACHE_TTL |
| `ratelimit:{<subject>}` | sorted set: microseconds at which each place was taken | the longest window, and a second |
| `user:last_activity:{+phone}` | when the user last wrote, RFC 3339 | LAST_ACTIVITY_TTL |
| `transcript:{<digest>}` | JSON: what was heard; the digest is of audio and listener | TRANSCRIPT_CACHE_TTL |
| `idem:<client>:<key>` | hash: which message an Idempotency-Key stands for, how far it is | IDEMPOTENCY_TTL |
| `latency:<type>` | list: of the last 100 completed messages, `<milliseconds>@<when>` | an hour |
| `health:board` | hash: how each process was, and what it depends on | three times HEALTH_CHECK_INTERVAL |

The braces are part of the key: they are its hash tag, so that the keys of one message, and those of one user, share a
slot in Redis Cluster.

One pub/sub channel, `wakeups`: `F<id>` when a message has ended, `M<id>` when it has come to another stage.

A store's methods give requests, which are sent when they are awaited, alone or together (`commands`). Everything goes
through one client, whose callers share round trips (`connection`). To await a request raises StoreUnavailable when
Redis is out of reach or refuses what it should take. A store that one service alone uses is in that service.
"""

from eai_common.store.activity import Activity, ActivityStore
from eai_common.store.checkpoints import Acquired, Checkpoints, Claim, Completed, Locked
from eai_common.store.client import (
    PoolUse,
    Redis,
    RedisClient,
    open_client,
    open_memory_redis,
    open_redis,
    pool_use,
)
from eai_common.store.commands import (
    Argument,
    Command,
    Reply,
    Request,
    Script,
    as_hash,
    as_text,
    command,
    milliseconds,
    pairs_of,
    together,
    together_all,
)
from eai_common.store.errors import StoreUnavailable
from eai_common.store.keys import message_key, user_key
from eai_common.store.latency import Completion, LatencyStore
from eai_common.store.sliding_window import SlidingWindow
from eai_common.store.tasks import FailedAttempt, TaskStatus, TaskStore, TaskView, status_key
from eai_common.store.wakeups import Subscription, Wakeups, open_wakeups

__all__ = [
    "Acquired",
    "Activity",
    "ActivityStore",
    "Argument",
    "Checkpoints",
    "Claim",
    "Command",
    "Completed",
    "Completion",
    "FailedAttempt",
    "LatencyStore",
    "Locked",
    "PoolUse",
    "Redis",
    "RedisClient",
    "Reply",
    "Request",
    "Script",
    "SlidingWindow",
    "StoreUnavailable",
    "TaskStatus",
    "TaskStore",
    "TaskView",
    "Wakeups",
    "Subscription",
    "as_hash",
    "as_text",
    "command",
    "message_key",
    "milliseconds",
    "open_client",
    "open_memory_redis",
    "open_redis",
    "open_wakeups",
    "pairs_of",
    "pool_use",
    "status_key",
    "together",
    "together_all",
    "user_key",
]
