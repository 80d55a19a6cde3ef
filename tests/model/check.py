"""Checks the protocol of a user's turns: its state machine in every interleaving, and its scripts in Redis.

.venv/bin/python tests/model/check.py [WORD ...]           scopes whose name has a word; without: the small ones
.venv/bin/python tests/model/check.py --all                every scope, a quarter of an hour and 1 GB
.venv/bin/python tests/model/check.py --mutants            each guard taken out is found
.venv/bin/python tests/model/check.py --walks 60           random walks through larger scopes, so many seconds each
.venv/bin/python tests/model/check.py --agree 1000000      so many random calls, on the state machine and in Redis;
                                                           --redis URL, else the one in the process
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import fakeredis
import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.explorer import Search, explore
from model.mutants import MUTANTS
from model.scopes import LARGE, SCOPES, SMALL
from model.twin import RULES, Twin, random_steps
from model.walks import walk

from eai_common.turns import machine

_CALLS_AT_ONCE = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if anything does not hold."""
    options = _options().parse_args(arguments)
    if options.agree:
        return _agree(options.agree, options.redis)
    if options.mutants:
        return _find_mutants(options.words)
    if options.walks:
        random = Random(options.seed)
        return _report(walk(scope, machine, seconds=options.walks, random=random) for scope in LARGE)
    scopes = SCOPES if options.all or options.words else SMALL
    chosen = [scope for scope in scopes if not options.words or any(word in scope.name for word in options.words)]
    return _report(explore(scope, machine) for scope in chosen)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--walks", type=float, metavar="SECONDS")
    parser.add_argument("--agree", type=int, metavar="CALLS")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def _report(searches: Iterable[Search]) -> int:
    states = transitions = problems = 0
    for search in searches:
        print(search, flush=True)
        states += search.states
        transitions += search.transitions
        problems += bool(search.problem)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{states:,d} states, {transitions:,d} transitions, {problems} problems; most memory {memory} MB")
    return 1 if problems else 0


def _find_mutants(words: Sequence[str]) -> int:
    missed = 0
    for mutant in MUTANTS:
        if words and not any(word in mutant.guard for word in words):
            continue
        found = mutant.found()
        print(f"{mutant.guard:58s} {mutant.scope.name:26s} {found[:80] or 'NOT FOUND'}", flush=True)
        missed += not found
    print(f"{missed} not found")
    return 1 if missed else 0


def _agree(calls: int, url: str | None) -> int:
    connection = redis.Redis.from_url(url, protocol=2) if url else fakeredis.FakeRedis(protocol=2)
    began, done = time.perf_counter(), 0
    while done < calls:
        random, rules = Random(done), RULES[done // _CALLS_AT_ONCE % len(RULES)]
        twin = Twin(connection, rules)
        twin.clear()
        if difference := twin.differences(random_steps(random, rules, _CALLS_AT_ONCE)):
            print(f"seed {done}: {difference}")
            return 1
        done += _CALLS_AT_ONCE
    print(f"{done:,d} calls agree, {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
