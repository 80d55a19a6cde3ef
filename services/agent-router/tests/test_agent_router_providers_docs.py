"""docs/providers.md shows the table that the code goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from eai_agent_router.failures import RULES, Rule
from eai_common.errors import Retriable

PAGE = Path(__file__).resolve().parents[3] / "docs" / "providers.md"
TABLE = re.compile(r"(?<=<!-- the table of RULES -->\n).*(?=<!-- end -->)", re.DOTALL)
HEAD = ["| provider | codes | HTTP | words | error | again | for the operator |", "|---|---|---|---|---|---|---|"]


def table() -> str:
    return "".join(f"{line}\n" for line in (*HEAD, *(_row(rule) for rule in RULES)))


def _row(rule: Rule) -> str:
    cells = (
        f"`{rule.provider}`" if rule.provider else "",
        ", ".join(f"`{code}`" for code in sorted(rule.codes)),
        ", ".join(_ranges(rule.statuses)),
        f"`{rule.words.pattern}`".replace("|", "\\|") if rule.words else "",
        f"`{rule.error.error_code}`",
        "yes" if issubclass(rule.error, Retriable) else "no",
        rule.hint,
    )
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _ranges(statuses: Iterable[int]) -> Iterator[str]:
    for _, run in groupby(enumerate(sorted(statuses)), key=lambda place: place[1] - place[0]):
        numbers = [status for _, status in run]
        yield str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def test_the_page_shows_the_table_that_the_code_goes_by() -> None:
    shown = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert shown is not None
    assert shown[0] == table(), "put in what `table()` gives"
