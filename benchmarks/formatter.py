"""What formatting a reply costs, as JSON: replies a second, against HTML, against `re.sub`, and on hostile input.

    .venv/bin/python benchmarks/formatter.py

Times are CPU seconds of one thread, the best of several rounds;
the rounds of what is compared alternate, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version

from markdown_it import MarkdownIt
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin

from eai_formatter.rendering import format_reply, render

ANSWER = """\
## 2ª via do IPTU 2025

Olá! Para emitir a **2ª via do IPTU**, siga os passos abaixo:

1. Acesse o [Carioca Digital](https://carioca.rio/servicos/segunda-via-iptu?ano=2025&origem=whats_app);
2. Informe a **inscrição imobiliária** (8 dígitos, está no *carnê* do ano passado);
3. Escolha a forma de pagamento:
   - **Cota única:** R$ 1.116,00* (7% de desconto)
   - **Parcelado:** 10x de R$ 120,00
4. Clique em **Emitir guia** e guarde o número do protocolo.

| Forma | Vencimento | Valor |
|---|:---:|---:|
| Cota única | 07/02 | 1.116,00 |
| 1ª cota | 07/02 | 120,00 |
| 2ª cota | 10/03 | 120,00 |

> ⚠️ **Atenção:** a prefeitura não envia boletos por e-mail.
> Desconfie de links que não terminem em `rio`.

### Atendimento presencial

**Endereço:** Rua Afonso Cavalcanti, 455 – Cidade Nova
**Horário:** de segunda a sexta, das 9h às 16h
**Telefones:** 1746 ou (21) 3460-1746

Para ser atendido, leve:

- [ ] documento com foto
- [ ] CPF ou CNPJ
- [ ] carnê do ano anterior

Se o imóvel é *isento* ou *imune*, o pedido é feito em outro lugar: veja https://prefeitura.rio/iptu/isencao_2025.

---

*Valores sujeitos a alteração. Cálculo: 1.200,00 * 0,93 = 1.116,00.
"""

BASELINE = (
    "MarkdownIt('commonmark').enable(['table', 'strikethrough']).use(footnote).use(tasklists).render: "
    "what is needed to read the same constructs"
)
CHAIN: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\*\*(.+?)\*\*"), r"*\1*"),
    (re.compile(r"__(.+?)__"), r"*\1*"),
    (re.compile(r"~~(.+?)~~"), r"~\1~"),
    (re.compile(r"^#{1,6}\s+(.+)$", re.MULTILINE), r"*\1*"),
    (re.compile(r"!\[(.*?)\]\((.*?)\)"), r"\1: \2"),
    (re.compile(r"\[(.*?)\]\((.*?)\)"), r"\1 (\2)"),
    (re.compile(r"^\s*[*+-]\s+\[ \]\s+", re.MULTILINE), "☐ "),
    (re.compile(r"^\s*[*+]\s+", re.MULTILINE), "- "),
    (re.compile(r"^\|?[\s:|-]+\|?$", re.MULTILINE), ""),
    (re.compile(r"^---+$", re.MULTILINE), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]
"""What one would write first. It is wrong on this very answer (the table, the star note); here for its speed alone."""

HOSTILE: dict[str, tuple[Callable[[int], str], int]] = {
    "stars": (lambda n: "*" * n, 5_000_000),
    "stars after a letter": (lambda n: "a" + "*" * n, 100_000),
    "half-open stars": (lambda n: "*a " * (n // 3), 100_000),
    "brackets": (lambda n: "[" * n, 100_000),
    "links": (lambda n: "[a](b) " * (n // 7), 100_000),
    "backticks": (lambda n: "` `` ``` " * (n // 9), 100_000),
    "tags": (lambda n: "<b><i>x</b></i>" * (n // 15), 100_000),
    "nested quotes": (lambda n: "> " * n + "palavra", 5_000),
    "nested lists": (lambda n: "- " * n + "palavra", 5_000),
    "table rows": (lambda n: "| Posto | Rua |\n|---|---|\n" + "| Centro | Rua Afonso Cavalcanti, 455 |\n" * n, 60),
    "answer": (lambda n: (ANSWER * (n // len(ANSWER) + 1))[:n], 20_000),
}


def html_reader() -> MarkdownIt:
    """markdown-it-py set up to read what this formatter reads, with its own HTML renderer."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).use(footnote_plugin).use(tasklists_plugin)


def chain(text: str) -> str:
    """The obvious chain of substitutions."""
    for pattern, replacement in CHAIN:
        text = pattern.sub(replacement, text)
    return text


def best(works: dict[str, Callable[[], object]], *, rounds: int = 15, repeats: int = 40) -> dict[str, float]:
    """CPU seconds of one call of each, the best round's mean."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            started = time.process_time()
            for _ in range(repeats):
                work()
            seconds[name] = min(seconds[name], (time.process_time() - started) / repeats)
    return seconds


def once(text: str) -> float:
    """CPU seconds to format a text, the best of three."""
    return best({"it": lambda: format_reply(text)}, rounds=3, repeats=1)["it"]


def typical() -> dict[str, object]:
    """The cost of one everyday answer."""
    reader, plain_reader = html_reader(), MarkdownIt("commonmark")
    seconds = best(
        {
            "reply": lambda: format_reply(ANSWER),
            "render": lambda: render(ANSWER),
            "html": lambda: reader.render(ANSWER),
            "commonmark": lambda: plain_reader.render(ANSWER),
            "chain": lambda: chain(ANSWER),
        }
    )
    return {
        "characters": len(ANSWER),
        "replies_per_s": round(1 / seconds["reply"]),
        "reply_ms": round(seconds["reply"] * 1000, 3),
        "ratio_to_html": round(seconds["reply"] / seconds["html"], 2),
        "html_baseline": BASELINE,
        "ratio_to_html_without_plugins": round(seconds["reply"] / seconds["commonmark"], 2),
        "html_without_plugins_baseline": "MarkdownIt('commonmark').render: no tables, strikethrough, tasks, notes",
        "ratio_to_re_sub": round(seconds["reply"] / seconds["chain"], 1),
    }


def linearity() -> dict[str, dict[str, float]]:
    """Each hostile text at n and 2n; linear is a ratio of 2."""
    figures: dict[str, dict[str, float]] = {}
    for name, (make, n) in HOSTILE.items():
        small, large = once(make(n)), once(make(2 * n))
        figures[name] = {
            "n": n,
            "seconds": round(small, 4),
            "seconds_at_2n": round(large, 4),
            "ratio": round(large / small, 2),
        }
    return figures


def main() -> None:
    """Measure all and print."""
    report = {
        "python": platform.python_version(),
        "markdown_it_py": version("markdown-it-py"),
        "typical_answer": typical(),
        "hostile": linearity(),
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
