"""The other chats, and what the package exports."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest

import eai_formatter.rendering as rendering
from eai_formatter.rendering import PLAIN_TEXT, TELEGRAM, render
from eai_formatter.rendering.testing import show

ANSWER = """## Documentos

1. **RG** (_original_)
2. [CPF](https://carioca.rio/a_b?c=(d))

> ~~Taxa~~ `R$ 0,00`

```python
x = "`"
```"""


def test_telegram_gets_markdown_v2() -> None:
    assert render(ANSWER, TELEGRAM) == (
        "*Documentos*\n\n"
        "1\\. *RG* \\(_original_\\)\n"
        "2\\. [CPF](https://carioca.rio/a_b?c=(d\\))\n\n"
        ">~Taxa~ `R$ 0,00`\n\n"
        '```python\nx = "\\`"\n```'
    )


def test_plain_text_gets_the_words_alone() -> None:
    assert render(ANSWER, PLAIN_TEXT) == (
        "Documentos\n\n"
        "1. RG (original)\n"
        "2. CPF (https://carioca.rio/a_b?c=(d))\n\n"
        "> Taxa R$ 0,00\n\n"
        'x = "`"'
    )


def test_a_table_in_plain_text_is_written_row_by_row() -> None:
    table = "| Linha | Ponto |\n|---|---|\n| 422 | Grajaú |\n| 100 | Central |"
    assert render(table, PLAIN_TEXT) == "Linha: 422\nPonto: Grajaú\n\nLinha: 100\nPonto: Central"


def test_telegram_styles_inside_a_word() -> None:
    assert render("des**contin**uado", TELEGRAM) == "des*contin*uado"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [(TELEGRAM, "*Prazo:* 5 dias\n_aviso_ \\- ~velho~"), (PLAIN_TEXT, "Prazo: 5 dias\naviso - velho")],
    ids=["telegram", "plain"],
)
def test_whatsapps_own_syntax_is_understood_for_other_chats(profile: rendering.Profile, expected: str) -> None:
    assert render("*Prazo:* 5 dias\n_aviso_ - ~velho~", profile) == expected


def test_plain_text_is_escaped_for_telegram() -> None:
    assert render("Ligue 1746. (24h)", TELEGRAM) == "Ligue 1746\\. \\(24h\\)"


MODULES = [
    "eai_formatter.rendering",
    *(f"eai_formatter.rendering.{module.name}" for module in iter_modules(rendering.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_exports_is_there(name: str) -> None:
    module = import_module(name)
    assert all(hasattr(module, exported) for exported in module.__all__)


@pytest.mark.parametrize(
    ("message", "word", "styles"),
    [
        ("um *dois* três", "dois", {"bold"}),
        ("um _*dois*_ três", "dois", {"bold", "italic"}),
        ("2 * 3 * 4", "3", set()),
        ("a*b*c", "b", set()),
        ("`*dois*`", "dois", {"code"}),
        ("*um\ndois*", "dois", set()),
        ("```\ndois\n```", "dois", {"code"}),
        ("*x\u200a*", "x", set()),
    ],
)
def test_the_reader_that_stands_for_a_phone_reads_as_one(message: str, word: str, styles: set[str]) -> None:
    shown = show(message)
    at = "".join(char.char for char in shown).index(word)
    assert shown[at].styles == styles
