"""What is searched: the table of the protocol, and what this machine has beyond it."""

from __future__ import annotations

from model.world import Scope

__all__ = ["LARGE", "SCOPES", "SMALL"]


def _only(*faults: str) -> frozenset[str]:
    return frozenset(faults)


_DEATHS = ("crash", "connection", "lapse")
_INGRESS = _only("unsure", "late", "refused", "ingress", "away", "dup")
_ANY = _only("rollback", *_DEATHS, "late", "dup", "unsure", "drain", "partial")
_PROCESS = _only("crash", "connection", "lapse", "late", "drain")

SCOPES = (
    Scope("1 text, any 3 faults, 3 workers, replay", "t", faults=3, tasks=3, refusals=1, replays=1),
    Scope("1 audio, any 2 faults, replay", "a", faults=2, refusals=1, replays=1),
    Scope("2 texts, any 2 faults", "tt", faults=2),
    Scope("2 texts, any 2 faults, fail", "tt", faults=2, fail_if_uncertain=True),
    Scope("2 texts, any fault, 3 workers, replay", "tt", tasks=3, refusals=1, replays=1),
    Scope("2 texts, 3 of processes", "tt", faults=3, errors=0, kinds=_only("crash", "connection", "lapse")),
    Scope("audio+text, any fault, replay", "at", refusals=1, replays=1),
    Scope("audio+text, any 2 faults", "at", faults=2, errors=0),
    Scope("text+audio, any 2 faults", "ta", faults=2, errors=0),
    Scope("3 texts, any fault", "ttt"),
    Scope("text+audio+text, any fault", "tat", errors=0),
    Scope("2 texts merged, any 2 faults", "tt", "mm", faults=2),
    Scope("2 texts merged, fail, any 2 faults", "tt", "mm", faults=2, fail_if_uncertain=True),
    Scope("2 texts merged, any fault, replay", "tt", "mm", refusals=1, replays=1),
    Scope("text+audio merged, any 2 faults", "ta", "mm", faults=2, errors=0),
    Scope("3 texts merged, any fault", "ttt", "mmm"),
    Scope("text+history+text merged, any fault", "tht", "mmm", errors=0),
    Scope("text+audio+text merged, any fault", "tat", "mmm", errors=0),
    Scope("2 texts, failover, replay", "tt", refusals=1, replays=1, kinds=_only("rollback")),
    Scope("2 texts, failover + process", "tt", faults=2, errors=0, kinds=_only("rollback", *_DEATHS)),
    Scope(
        "2 texts merged, failover + process", "tt", "mm", faults=2, errors=0, kinds=_only("rollback", *_DEATHS, "late")
    ),
    Scope(
        "2 texts merged, flush + part lost",
        "tt",
        "mm",
        faults=2,
        errors=0,
        kinds=_only("flush", "partial", "crash", "late"),
    ),
    Scope(
        "2 texts, parts lost, replay", "tt", faults=2, errors=0, refusals=1, replays=1, kinds=_only("partial", "flush")
    ),
    Scope("3 texts, 2 of processes", "ttt", faults=2, errors=0, kinds=_PROCESS),
    Scope("3 texts merged, 2 of processes", "ttt", "mmm", faults=2, errors=0, kinds=_PROCESS),
    Scope("2 texts, 3 of ingress", "tt", faults=3, errors=0, kinds=_INGRESS),
    Scope(
        "2 texts, replay, 3 of processes",
        "tt",
        faults=3,
        errors=0,
        refusals=1,
        replays=1,
        kinds=_only("crash", "lapse", "dup"),
    ),
    Scope("2 texts, flush + 2 of processes", "tt", faults=3, kinds=_only("flush", *_DEATHS)),
    Scope(
        "audio+text, purge, overdue, process",
        "at",
        faults=3,
        errors=0,
        refusals=1,
        kinds=_only("purge", "overdue", "crash", "lapse"),
    ),
    Scope("2 texts, 3 workers, 3 of processes", "tt", faults=3, tasks=3, errors=0, kinds=_only(*_DEATHS, "dup")),
    # Cancelling, double texting, the quiet window, ORDERING_MAX_WAIT, clocks of ingress that differ.
    Scope("1 text, cancel, any 2 faults, replay", "t", faults=2, refusals=1, replays=1, cancels=1),
    Scope("2 texts, cancel, any 2 faults", "tt", faults=2, errors=0, cancels=1),
    Scope("2 texts merged, cancel, any fault", "tt", "mm", cancels=1),
    Scope("2 texts merged, cancel, fail, any fault", "tt", "mm", cancels=1, fail_if_uncertain=True),
    Scope("audio+text merged, cancel, any fault", "at", "mm", errors=0, cancels=1),
    Scope("3 texts merged, 2 cancels", "ttt", "mmm", faults=0, cancels=2),
    Scope("3 texts merged, cancel, process fault", "ttt", "mmm", errors=0, cancels=1, kinds=_PROCESS),
    Scope("2 texts, cancel, failover", "tt", errors=0, cancels=1, kinds=_only("rollback")),
    Scope("2 texts, interrupt, any 2 faults", "tt", "qi", faults=2, errors=0),
    Scope("2 texts, interrupt, any fault", "tt", "qi"),
    Scope("2 texts, interrupt, fail, any fault", "tt", "qi", fail_if_uncertain=True),
    Scope("2 texts, interrupt, cancel, any fault", "tt", "qi", errors=0, cancels=1),
    Scope("3 texts, 2 interrupt, any fault", "ttt", "qii", errors=0),
    Scope("text+audio, interrupt, any fault", "ta", "qi", refusals=1),
    Scope("text+text+audio, interrupt", "tta", "qii", faults=0),
    Scope("2 texts, interrupt, failover", "tt", "qi", errors=0, kinds=_only("rollback", "crash")),
    Scope("2 texts, reject, any 2 faults", "tt", "qr", faults=2, errors=0),
    Scope("text+audio, quiet, any fault", "ta", "mm", is_quiet=True),
    Scope("2 texts, quiet, any fault", "tt", "mm", is_quiet=True),
    Scope("2 texts, given up for the next, any fault", "tt", errors=2, gives_up=True),
    Scope("2 texts, clocks differ, any 2 faults", "tt", faults=2, errors=0, clocks=(5, 3)),
)
"""All of them; `check.py --all` takes a quarter of an hour."""

SMALL = (
    Scope("1 text, any fault, replay", "t", refusals=1, replays=1),
    Scope("1 text, fail, any fault", "t", fail_if_uncertain=True),
    Scope("1 audio, replay", "a", faults=0, refusals=1, replays=1),
    Scope("1 text, cancel, any fault", "t", errors=0, cancels=1),
    Scope("2 texts, any fault, no error", "tt", errors=0),
    Scope("2 texts merged", "tt", "mm", faults=0),
    Scope("2 texts merged, process fault", "tt", "mm", errors=0, kinds=_PROCESS),
    Scope("audio+text merged", "at", "mm", faults=0, errors=0, refusals=1),
    Scope("text+history+text merged", "tht", "mmm", faults=0, errors=0),
    Scope("2 texts merged, cancel", "tt", "mm", faults=0, cancels=1),
    Scope("2 texts, interrupt", "tt", "qi", faults=0),
    Scope(
        "2 texts, interrupt, fail, crash", "tt", "qi", errors=0, fail_if_uncertain=True, kinds=_only("crash", "lapse")
    ),
    Scope("text+audio, interrupt", "ta", "qi", faults=0, errors=0),
    Scope("2 texts, reject", "tt", "qr", errors=0, kinds=_INGRESS),
    Scope("2 texts, quiet", "tt", "mm", faults=0, is_quiet=True),
    Scope("2 texts, given up for the next", "tt", faults=0, errors=2, gives_up=True),
    Scope("2 texts, clocks differ", "tt", errors=0, clocks=(5, 3), kinds=_INGRESS),
    Scope("1 text, failover", "t", errors=0, kinds=_only("rollback", "crash")),
)
"""Seconds, for each run of the tests."""

LARGE = (
    Scope("4 messages, 5 faults, replay", "tatt", tasks=3, faults=5, errors=2, refusals=2, replays=1, cancels=1),
    Scope("4 messages merged, 5 faults", "ttat", "mmmm", tasks=3, faults=5, errors=2, refusals=1, replays=1, cancels=1),
    Scope("5 messages merged, history, 4 faults", "tthtt", "mmmmm", tasks=3, faults=4, errors=2, refusals=1, cancels=2),
    Scope(
        "4 messages, fail, 5 faults", "ttta", fail_if_uncertain=True, tasks=3, faults=5, errors=2, refusals=1, replays=1
    ),
    Scope("4 messages, interrupt, 5 faults", "ttat", "qiii", tasks=3, faults=5, errors=2, refusals=1, cancels=1),
    Scope(
        "3 messages, failover, 4 faults", "tta", "qmm", tasks=3, faults=4, errors=2, refusals=1, replays=1, kinds=_ANY
    ),
)
"""Too large to be searched: for random walks."""
