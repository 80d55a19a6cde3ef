"""The rules of rendering, case by case, checked by hand. `docs/formatting.md` is made from this table.

Run this file to write the page anew: `python services/formatter/tests/test_formatter_render_cases.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from eai_formatter.rendering import render

HAIR_SPACE = "\u200a"
SHOWN_HAIR_SPACE = "␣"
SAME = None


@dataclass(frozen=True, slots=True)
class Case:
    """One text, and what WhatsApp is sent for it; `SAME` is the text itself."""

    name: str
    markdown: str
    whatsapp: str | None

    @property
    def expected(self) -> str:
        return self.markdown if self.whatsapp is None else self.whatsapp


@dataclass(frozen=True, slots=True)
class Section:
    """Cases of one rule."""

    title: str
    rule: str
    cases: list[Case]


# fmt: off
SECTIONS = [
    Section(
        "Bold, italic, strikethrough",
        "`**b**` and `__b__` become `*b*`; `*i*` and `_i_` become `_i_`; both become `_*x*_`; `~~s~~` becomes `~s~`.",
        [
            Case("bold with stars", "O IPTU vence em **10 de março**.", "O IPTU vence em *10 de março*."),
            Case("bold with underscores", "O IPTU vence em __10 de março__.", "O IPTU vence em *10 de março*."),
            Case("italic with a star", "O prazo é *improrrogável*.", "O prazo é _improrrogável_."),
            Case("italic with an underscore", "O prazo é _improrrogável_.", SAME),
            Case("bold and italic", "***Atenção*** ao prazo.", "_*Atenção*_ ao prazo."),
            Case("bold in italic", "*Leve **RG e CPF** originais*", "_Leve *RG e CPF* originais_"),
            Case("italic in bold", "**Leve *RG e CPF* originais**", "*Leve _RG e CPF_ originais*"),
            Case("underscores in stars", "**_Urgente_**", "_*Urgente*_"),
            Case("stars in underscores", "_**Urgente**_", "_*Urgente*_"),
            Case("strikethrough", "De ~~R$ 120,00~~ por R$ 96,00.", "De ~R$ 120,00~ por R$ 96,00."),
            Case("strikethrough with one tilde", "De ~R$ 120,00~ por R$ 96,00.", SAME),
            Case("bold strikethrough", "**~~Cancelado~~**", "*~Cancelado~*"),
            Case("strikethrough with bold inside", "~~Vence **hoje**~~", "~Vence *hoje*~"),
            Case(
                "a bold word with punctuation after it",
                "Ligue **1746**, **1746**! (**1746**)",
                "Ligue *1746*, *1746*! (*1746*)",
            ),
            Case(
                "a bold word in parentheses",
                "A taxa (**isenta**) não é cobrada.",
                "A taxa (*isenta*) não é cobrada.",
            ),
            Case("bold in quotes", "Clique em \"**Emitir**\".", "Clique em \"*Emitir*\"."),
            Case("two bold words side by side", "**Linha 422** **Grajaú**", "*Linha 422* *Grajaú*"),
            Case("bold with an accent at its border", "A **água** é **potável**.", "A *água* é *potável*."),
            Case("bold with an emoji", "**✅ Aprovado**", "*✅ Aprovado*"),
            Case(
                "bold over three lines is three bold lines",
                "**Rua Afonso Cavalcanti, 455\n"
                "Cidade Nova\n"
                "Rio de Janeiro**",
                "*Rua Afonso Cavalcanti, 455*\n"
                "*Cidade Nova*\n"
                "*Rio de Janeiro*",
            ),
            Case(
                "bold that begins in the middle of a line",
                "Endereço: **Av. Presidente Vargas\n"
                "1.997** – Centro",
                "Endereço: *Av. Presidente Vargas*\n"
                "*1.997* – Centro",
            ),
            Case(
                "italic over two lines",
                "_Sujeito a alteração\n"
                "sem aviso prévio_",
                "_Sujeito a alteração_\n"
                "_sem aviso prévio_",
            ),
            Case("spaces inside the markers go outside", "<b> Aviso </b>importante", "*Aviso* importante"),
            Case("a bold part of a word cannot be shown", "des**contin**uado", "descontinuado"),
            Case("a bold beginning of a word cannot be shown", "**re**cadastramento", "recadastramento"),
            Case("bold next to italic", "**Prazo**: _5 dias_", "*Prazo*: _5 dias_"),
            Case("bold inside bold is not doubled", "**Leve **RG** e CPF**", "*Leve RG e CPF*"),
            Case("nothing between the markers", "Valor: ** ** reais", SAME),
            Case("four stars are not markup", "Nota: **** de 5", SAME),
        ],
    ),
    Section(
        "Literal stars, underscores and tildes",
        "Arithmetic, names, notes and prices stay unchanged and style nothing.",
        [
            Case("multiplication with spaces", "2 * 3 * 4 = 24", SAME),
            Case("multiplication without spaces", "Área: 5*3*2 m³", SAME),
            Case("a power", "2**10 = 1024 e 3**2 = 9", "2**10 = 1024 e 3␣**2 = 9"),
            Case("multiplication with values", "R$ 10,00 * 12 = R$ 120,00", SAME),
            Case("snake_case", "O campo nome_do_contribuinte_atual é obrigatório.", SAME),
            Case("a leading underscore", "O arquivo _config.yml não foi achado.", SAME),
            Case("dunder names", "Veja __init__.py e __main__.py.", "Veja __init␣__.py e __main␣__.py."),
            Case("a price with a note", "IPTU à vista: R$ 1.116,00*", SAME),
            Case("two prices with notes", "Inteira R$ 10,00* e meia R$ 5,00*.", SAME),
            Case(
                "the note itself",
                "Cota única: R$ 1.116,00*\n"
                "\n"
                "* Com 7% de desconto.",
                SAME,
            ),
            Case("a bold price with a note", "**R$ 1.116,00\\*** à vista", "*R$ 1.116,00*␣* à vista"),
            Case("a note in bold", "**\\* Com 7% de desconto**", "* *Com 7% de desconto*"),
            Case(
                "a note in parentheses",
                "Valor (*) sujeito a reajuste (*) anual.",
                "Valor (*) sujeito a reajuste (␣*) anual.",
            ),
            Case("a lone star", "Campos com * são obrigatórios.", SAME),
            Case("a lone underscore", "Use _ no lugar do espaço.", SAME),
            Case("a lone tilde", "Fica a ~2 km daqui.", SAME),
            Case("two tildes for about", "Chega em ~10 min, anda ~500 m.", SAME),
            Case(
                "a required field",
                "Nome*: \n"
                "CPF*: ",
                "Nome*: \n"
                "CPF*:",
            ),
            Case("a file pattern", "Aceitamos *.pdf e *.jpg.", SAME),
            Case("a dialling code", "Disque *144# ou *#06#.", SAME),
            Case("a masked number", "CPF ***.456.789-**", "CPF ***.456.789-␣**"),
            Case("blanks to fill in", "Nome: ______ Data: __/__/____", "Nome: ______ Data: __/␣__/␣____"),
            Case("a row of stars", "Nota: *****", SAME),
            Case("a path", "Pasta /_arquivos_/2025", "Pasta /_arquivos␣_/2025"),
            Case("an unclosed bold", "**Atenção: leve o RG", SAME),
            Case("an unopened bold", "Atenção** leve o RG", SAME),
            Case("hash signs", "Escaneie #Rio2025 e # 5", SAME),
            Case("less and greater", "Renda < 2 salários e idade > 60", SAME),
            Case("an at sign and a percent", "fale@rio com 100% de certeza", SAME),
            Case("a smile", "Obrigado! ^_^ :*", SAME),
        ],
    ),
    Section(
        "Escapes and entities",
        "`\\*x\\*` never becomes bold: a hair space (U+200A, shown here as ␣) disables the marker.",
        [
            Case("escaped stars", "\\*não é negrito\\*", "*não é negrito␣*"),
            Case("escaped underscores", "\\_não é itálico\\_", "_não é itálico␣_"),
            Case("escaped tildes", "\\~não é riscado\\~", "~não é riscado␣~"),
            Case("escaped backticks", "\\`não é código\\`", "`não é código␣`"),
            Case("one escaped star", "Valor\\* sujeito a reajuste", "Valor* sujeito a reajuste"),
            Case("an escaped star beside bold", "\\*Obrigatório **sempre**", "*␣Obrigatório *sempre*"),
            Case(
                "escaped brackets",
                "\\[não é link\\](https://rio.rj.gov.br)",
                "[não é link](https://rio.rj.gov.br)",
            ),
            Case("an escaped hash", "\\# não é título", "# não é título"),
            Case("an escaped quote mark", "\\> não é citação", "␣> não é citação"),
            Case("an escaped number", "2025\\. Foi um bom ano.", "2025. Foi um bom ano."),
            Case("a backslash before a letter", "C:\\temp\\dados", SAME),
            Case("an escaped backslash", "C:\\\\temp", "C:\\temp"),
            Case("a star as an entity", "&#42;x&#42;", "*x␣*"),
            Case(
                "entities",
                "Secretaria de Fazenda &amp; Planejamento &lt;SMF&gt;",
                "Secretaria de Fazenda & Planejamento <SMF>",
            ),
            Case("a space that does not break", "R$&nbsp;10,00", "R$\xa010,00"),
            Case("an ampersand that is no entity", "P&D e R&S; AT&T", SAME),
            Case("an unknown entity", "&prazo; de 5 dias", SAME),
        ],
    ),
    Section(
        "Code",
        "Inline code and fences keep every byte. The language after a fence is dropped: it would show as code.",
        [
            Case("inline code", "Digite `1746` no campo.", SAME),
            Case("stars in code", "Use `a * b * c` e `snake_case`.", SAME),
            Case("quotes in code", "Execute `echo \"olá\" 'mundo'`.", SAME),
            Case("a backtick in code", "Use ``a`b`` assim.", "Use ```a`b``` assim."),
            Case("three backticks in a line", "Código: ```RIO-2025```", SAME),
            Case("code in bold", "**Digite `1746` agora**", "*Digite* `1746` *agora*"),
            Case("bold in code is not bold", "`**x**`", SAME),
            Case(
                "a fence",
                "```\n"
                "RIO-2025-000123\n"
                "```",
                SAME,
            ),
            Case(
                "a fence with a language",
                "```python\n"
                "x = 2 * 3 * 4\n"
                "print(\"olá\")\n"
                "```",
                "```\n"
                "x = 2 * 3 * 4\n"
                "print(\"olá\")\n"
                "```",
            ),
            Case(
                "a fence with tildes",
                "~~~\n"
                "a ~ b\n"
                "~~~",
                "```\n"
                "a ~ b\n"
                "```",
            ),
            Case(
                "a fence keeps its blank lines and spaces",
                "```\n"
                "a\n"
                "\n"
                "    b\n"
                "```",
                SAME,
            ),
            Case(
                "a fence in a list is set at the margin",
                "1. Copie:\n"
                "   ```\n"
                "   RIO-2025\n"
                "   ```\n"
                "2. Cole",
                "1. Copie:\n"
                "```\n"
                "RIO-2025\n"
                "```\n"
                "2. Cole",
            ),
            Case(
                "an unclosed fence",
                "```\n"
                "RIO-2025",
                "```\n"
                "RIO-2025\n"
                "```",
            ),
            Case(
                "an empty fence",
                "Antes\n"
                "\n"
                "```\n"
                "```\n"
                "\n"
                "Depois",
                "Antes\n"
                "\n"
                "Depois",
            ),
            Case(
                "a fence with a fence inside",
                "````\n"
                "```\n"
                "x\n"
                "```\n"
                "````",
                "```\n"
                "x\n"
                "```",
            ),
            Case("an unclosed backtick", "Tecle ` e Enter", SAME),
            Case(
                "a fence right after a line",
                "Seu código:\n"
                "```\n"
                "ABC-123\n"
                "```\n"
                "Guarde-o.",
                SAME,
            ),
        ],
    ),
    Section(
        "Headings and rules",
        "A heading is a bold line; bold inside it is not doubled. A rule is a blank line.",
        [
            Case("a first heading", "# IPTU 2025", "*IPTU 2025*"),
            Case("a sixth heading", "###### Observações", "*Observações*"),
            Case(
                "a heading and its text",
                "## Documentos\n"
                "RG e CPF",
                "*Documentos*\n"
                "RG e CPF",
            ),
            Case(
                "a heading after text",
                "Veja abaixo.\n"
                "## Documentos\n"
                "RG e CPF",
                "Veja abaixo.\n"
                "\n"
                "*Documentos*\n"
                "RG e CPF",
            ),
            Case("bold in a heading", "## **Documentos** necessários", "*Documentos necessários*"),
            Case("all bold", "### **Vacinação**", "*Vacinação*"),
            Case("italic in a heading", "## Campanha *Rio Vacina*", "*Campanha _Rio Vacina_*"),
            Case("a heading with an emoji", "## 💉 Vacinação", "*💉 Vacinação*"),
            Case("a heading with closing hashes", "## Horários ##", "*Horários*"),
            Case("a heading with code", "## Use `1746`", "*Use* `1746`"),
            Case(
                "a heading with a link",
                "## [Carioca Digital](https://carioca.rio)",
                "*Carioca Digital* (https://carioca.rio)",
            ),
            Case("no space, no heading", "#RioContraDengue", SAME),
            Case("seven hashes", "####### não é título", SAME),
            Case(
                "an empty heading",
                "#\n"
                "\n"
                "Texto",
                "Texto",
            ),
            Case(
                "two headings in a row",
                "# Saúde\n"
                "## Vacinas\n"
                "Texto",
                "*Saúde*\n"
                "*Vacinas*\n"
                "Texto",
            ),
            Case(
                "a rule between paragraphs",
                "Antes\n"
                "\n"
                "---\n"
                "\n"
                "Depois",
                "Antes\n"
                "\n"
                "Depois",
            ),
            Case(
                "a rule of stars",
                "Antes\n"
                "\n"
                "***\n"
                "\n"
                "Depois",
                "Antes\n"
                "\n"
                "Depois",
            ),
            Case(
                "a rule of underscores",
                "Antes\n"
                "\n"
                "___\n"
                "\n"
                "Depois",
                "Antes\n"
                "\n"
                "Depois",
            ),
            Case(
                "a line over dashes is not a heading",
                "Total: R$ 120,00\n"
                "---\n"
                "Pague até sexta.",
                "Total: R$ 120,00\n"
                "\n"
                "Pague até sexta.",
            ),
            Case(
                "a line over equal signs is a heading",
                "Segunda via\n"
                "===========\n"
                "Acesse o site.",
                "*Segunda via*\n"
                "Acesse o site.",
            ),
            Case(
                "two rules",
                "Antes\n"
                "\n"
                "---\n"
                "\n"
                "---\n"
                "\n"
                "Depois",
                "Antes\n"
                "\n"
                "Depois",
            ),
            Case(
                "a rule at the end",
                "Fim\n"
                "\n"
                "---",
                "Fim",
            ),
        ],
    ),
    Section(
        "Lists",
        "`- ` and `1. ` with indentation, renumbered as Markdown does; tasks ☐ and ☑.",
        [
            Case(
                "bullets with dashes",
                "- RG\n"
                "- CPF",
                SAME,
            ),
            Case(
                "bullets with stars",
                "* RG\n"
                "* CPF",
                "- RG\n"
                "- CPF",
            ),
            Case(
                "bullets with plus signs",
                "+ RG\n"
                "+ CPF",
                "- RG\n"
                "- CPF",
            ),
            Case(
                "bullets after a line",
                "Leve:\n"
                "- RG\n"
                "- CPF",
                SAME,
            ),
            Case(
                "bullets with blank lines between",
                "- RG\n"
                "\n"
                "- CPF",
                SAME,
            ),
            Case(
                "numbers",
                "1. Acesse\n"
                "2. Informe\n"
                "3. Emita",
                SAME,
            ),
            Case(
                "numbers that are all one",
                "1. Acesse\n"
                "1. Informe\n"
                "1. Emita",
                "1. Acesse\n"
                "2. Informe\n"
                "3. Emita",
            ),
            Case(
                "numbers that start later",
                "3. Emita\n"
                "4. Pague",
                SAME,
            ),
            Case(
                "numbers with parentheses",
                "1) Acesse\n"
                "2) Informe",
                "1. Acesse\n"
                "2. Informe",
            ),
            Case(
                "a number that skips",
                "1. Acesse\n"
                "3. Emita",
                "1. Acesse\n"
                "2. Emita",
            ),
            Case(
                "nested bullets",
                "- Documentos\n"
                "  - RG\n"
                "  - CPF\n"
                "- Taxa",
                SAME,
            ),
            Case(
                "three levels",
                "- Saúde\n"
                "  - Vacinas\n"
                "    - Gripe",
                SAME,
            ),
            Case(
                "nested by four spaces",
                "- Documentos\n"
                "    - RG\n"
                "    - CPF",
                SAME,
            ),
            Case(
                "bullets under numbers",
                "1. Separe\n"
                "   - RG\n"
                "   - CPF\n"
                "2. Vá ao posto",
                SAME,
            ),
            Case(
                "bullets under numbers, set in by two",
                "1. Separe\n"
                "  - RG\n"
                "  - CPF\n"
                "2. Vá ao posto",
                "1. Separe\n"
                "   - RG\n"
                "   - CPF\n"
                "2. Vá ao posto",
            ),
            Case(
                "numbers under bullets",
                "- Como chegar\n"
                "  1. Metrô\n"
                "  2. Ônibus 422",
                SAME,
            ),
            Case(
                "a second line in an item",
                "- Rua Afonso Cavalcanti, 455\n"
                "  Cidade Nova",
                SAME,
            ),
            Case(
                "a line below a list that is not set in",
                "- **RG**\n"
                "- **CPF**\n"
                "Leve os dois ao posto.",
                "- *RG*\n"
                "- *CPF*\n"
                "Leve os dois ao posto.",
            ),
            Case(
                "one star item below one with a style",
                "* CPF: *cópia*\n"
                "    * frente e verso",
                "- CPF: _cópia_\n"
                "  - frente e verso",
            ),
            Case(
                "a second paragraph in an item",
                "1. Acesse o site.\n"
                "\n"
                "   Use o CPF.\n"
                "2. Emita.",
                SAME,
            ),
            Case(
                "bold in items",
                "- **RG:** original\n"
                "- **CPF:** cópia",
                "- *RG:* original\n"
                "- *CPF:* cópia",
            ),
            Case(
                "a link in an item",
                "- [IPTU](https://carioca.rio/iptu)\n"
                "- [ISS](https://carioca.rio/iss)",
                "- IPTU (https://carioca.rio/iptu)\n"
                "- ISS (https://carioca.rio/iss)",
            ),
            Case(
                "tasks",
                "- [ ] RG\n"
                "- [x] CPF\n"
                "- [X] Comprovante",
                "☐ RG\n"
                "☑ CPF\n"
                "☑ Comprovante",
            ),
            Case(
                "numbered tasks",
                "1. [ ] Acesse\n"
                "2. [x] Emita",
                "1. ☐ Acesse\n"
                "2. ☑ Emita",
            ),
            Case("brackets that are no task", "- [Nota] leve RG", SAME),
            Case(
                "an empty item",
                "- RG\n"
                "-\n"
                "- CPF",
                SAME,
            ),
            Case(
                "bullets typed as signs",
                "Leve:\n"
                "• RG\n"
                "  • original\n"
                "• CPF",
                SAME,
            ),
            Case(
                "bus lines are not a list",
                "Linhas:\n"
                "422 - Grajaú\n"
                "100 - Central",
                SAME,
            ),
            Case(
                "a year is not a list item",
                "O programa existe desde\n"
                "2019. Ele atende 92 mil pessoas.",
                SAME,
            ),
            Case(
                "a phone with a plus is no bullet",
                "+ 55 21 3460-1746\n"
                "+ 55 21 2976-1234",
                SAME,
            ),
            Case("a negative number", "Fez -2 °C em Itatiaia.", SAME),
            Case(
                "a dash for speech",
                "– Bom dia!\n"
                "— Boa tarde!",
                SAME,
            ),
            Case(
                "a list after a heading",
                "## Leve\n"
                "- RG\n"
                "- CPF",
                "*Leve*\n"
                "- RG\n"
                "- CPF",
            ),
            Case(
                "a quote in an item",
                "- Atenção:\n"
                "  > Leve o RG",
                "- Atenção:\n"
                "> Leve o RG",
            ),
            Case("a list of one star item", "* Apenas com agendamento", "- Apenas com agendamento"),
        ],
    ),
    Section(
        "Quotes",
        "`> `, one level: WhatsApp has only one.",
        [
            Case("a quote", "> Documento válido por 30 dias", SAME),
            Case(
                "a quote of two lines",
                "> Documento válido\n"
                "> por 30 dias",
                SAME,
            ),
            Case(
                "a lazy quote",
                "> Documento válido\n"
                "por 30 dias",
                "> Documento válido\n"
                "> por 30 dias",
            ),
            Case(
                "two paragraphs in a quote",
                "> Primeiro\n"
                ">\n"
                "> Segundo",
                "> Primeiro\n"
                "\n"
                "> Segundo",
            ),
            Case("bold in a quote", "> **Atenção:** leve o RG", "> *Atenção:* leve o RG"),
            Case(
                "a list in a quote",
                "> - RG\n"
                "> - CPF",
                SAME,
            ),
            Case(
                "a quote in a quote",
                "> Ela disse:\n"
                "> > Está pago",
                "> Ela disse:\n"
                "> Está pago",
            ),
            Case("a quote without a space", ">Está pago", "> Está pago"),
            Case("an age is not a quote", ">60 anos: gratuito", SAME),
            Case(
                "text after a quote",
                "> Está pago\n"
                "\n"
                "Obrigado!",
                SAME,
            ),
        ],
    ),
    Section(
        "Links",
        "`text (url)`; only the URL if the text says the same; `tel:` and `mailto:` as number and address.",
        [
            Case(
                "a link",
                "Acesse o [Carioca Digital](https://carioca.rio).",
                "Acesse o Carioca Digital (https://carioca.rio).",
            ),
            Case("a link whose text is the URL", "[https://carioca.rio](https://carioca.rio)", "https://carioca.rio"),
            Case(
                "a link whose text is the URL without its scheme",
                "[carioca.rio](https://carioca.rio/)",
                "https://carioca.rio/",
            ),
            Case("a bare URL", "Acesse https://carioca.rio/iptu?ano=2025&tipo=cota_unica.", SAME),
            Case("a URL with underscores and stars", "https://rio.rj.gov.br/_a_/*b*/c__d__e?x_y=1", SAME),
            Case("a URL in angle brackets", "<https://carioca.rio>", "https://carioca.rio"),
            Case("a URL in parentheses", "(veja https://carioca.rio/iptu)", SAME),
            Case("a URL with parentheses", "https://pt.wikipedia.org/wiki/Rio_(cidade)", SAME),
            Case("a bold URL", "**https://carioca.rio**", "https://carioca.rio"),
            Case(
                "a bold link",
                "**[Carioca Digital](https://carioca.rio)**",
                "*Carioca Digital* (https://carioca.rio)",
            ),
            Case(
                "a bold link text",
                "[**Carioca Digital**](https://carioca.rio)",
                "*Carioca Digital* (https://carioca.rio)",
            ),
            Case(
                "a URL with accents keeps them",
                "[Educação](https://rio.rj.gov.br/educação)",
                "Educação (https://rio.rj.gov.br/educação)",
            ),
            Case(
                "a URL with spaces in angle brackets",
                "[mapa](<https://rio.rj.gov.br/o mapa>)",
                "mapa (https://rio.rj.gov.br/o mapa)",
            ),
            Case(
                "a link with a title",
                "[IPTU](https://carioca.rio \"Segunda via\")",
                "IPTU – Segunda via (https://carioca.rio)",
            ),
            Case("a phone", "[Ligue para a Central](tel:1746)", "Ligue para a Central (1746)"),
            Case("a phone whose text is its number", "[(21) 3460-1746](tel:+552134601746)", "(21) 3460-1746"),
            Case("a phone as an autolink", "Ligue <tel:+552134601746>.", "Ligue +552134601746."),
            Case("an address as an autolink", "<mailto:fale@rio.rj.gov.br>", "fale@rio.rj.gov.br"),
            Case("an address", "[Fale conosco](mailto:fale@rio.rj.gov.br)", "Fale conosco (fale@rio.rj.gov.br)"),
            Case(
                "an address whose text says it",
                "[fale@rio.rj.gov.br](mailto:fale@rio.rj.gov.br)",
                "fale@rio.rj.gov.br",
            ),
            Case("an address in angle brackets", "<fale@rio.rj.gov.br>", "fale@rio.rj.gov.br"),
            Case("a link with an empty text", "[](https://carioca.rio)", "https://carioca.rio"),
            Case("a link with an empty target", "[Carioca Digital]()", "Carioca Digital"),
            Case("a jump inside the page", "[Veja abaixo](#documentos)", "Veja abaixo"),
            Case(
                "a link by reference",
                "Veja o [guia][g].\n"
                "\n"
                "[g]: https://carioca.rio/guia",
                "Veja o guia (https://carioca.rio/guia).",
            ),
            Case(
                "a definition nobody uses stays",
                "Fontes:\n"
                "\n"
                "[1]: https://prefeitura.rio/noticias",
                SAME,
            ),
            Case(
                "two links",
                "[IPTU](https://carioca.rio/iptu) ou [ISS](https://carioca.rio/iss)",
                "IPTU (https://carioca.rio/iptu) ou ISS (https://carioca.rio/iss)",
            ),
            Case(
                "WhatsApp's own link",
                "[Fale no WhatsApp](https://wa.me/5521346001746)",
                "Fale no WhatsApp (https://wa.me/5521346001746)",
            ),
            Case("a URL at the end of bold text", "**Site: https://carioca.rio**", "*Site:* https://carioca.rio"),
            Case("a URL glued to stars", "**Site:** https://carioca.rio/a*b*c", "*Site:* https://carioca.rio/a*b*c"),
        ],
    ),
    Section(
        "Images and footnotes",
        "`🖼 alt: url`; footnotes as `[1]`, with the notes at the end.",
        [
            Case(
                "an image",
                "![Mapa do posto](https://rio.rj.gov.br/mapa.png)",
                "🖼 Mapa do posto: https://rio.rj.gov.br/mapa.png",
            ),
            Case(
                "an image without a text",
                "![](https://rio.rj.gov.br/mapa.png)",
                "🖼 https://rio.rj.gov.br/mapa.png",
            ),
            Case(
                "an image with a title",
                "![Mapa](https://rio.rj.gov.br/m.png \"Posto Centro\")",
                "🖼 Mapa – Posto Centro: https://rio.rj.gov.br/m.png",
            ),
            Case(
                "an image as a link",
                "[![Mapa](https://rio.rj.gov.br/m.png)](https://rio.rj.gov.br)",
                "🖼 Mapa: https://rio.rj.gov.br/m.png (https://rio.rj.gov.br)",
            ),
            Case(
                "an image in a sentence",
                "Veja ![o mapa](https://rio.rj.gov.br/m.png) abaixo",
                "Veja 🖼 o mapa: https://rio.rj.gov.br/m.png abaixo",
            ),
            Case(
                "a footnote",
                "Isento até 60 m²[^1].\n"
                "\n"
                "[^1]: Lei 691/84.",
                "Isento até 60 m²[1].\n"
                "\n"
                "[1] Lei 691/84.",
            ),
            Case(
                "two footnotes, numbered as they come",
                "Isento[^b] e imune[^a].\n"
                "\n"
                "[^a]: Constituição.\n"
                "[^b]: Lei 691/84.",
                "Isento[1] e imune[2].\n"
                "\n"
                "[1] Lei 691/84.\n"
                "[2] Constituição.",
            ),
            Case(
                "a footnote used twice",
                "Isento[^1], imune[^1].\n"
                "\n"
                "[^1]: Lei 691/84.",
                "Isento[1], imune[1].\n"
                "\n"
                "[1] Lei 691/84.",
            ),
            Case(
                "a footnote written in place",
                "Isento^[Lei 691/84.] até 60 m².",
                "Isento[1] até 60 m².\n"
                "\n"
                "[1] Lei 691/84.",
            ),
            Case(
                "a footnote of two paragraphs",
                "Isento[^1].\n"
                "\n"
                "[^1]: Lei 691/84.\n"
                "\n"
                "    Art. 61.",
                "Isento[1].\n"
                "\n"
                "[1] Lei 691/84.\n"
                "\n"
                "Art. 61.",
            ),
            Case("a mark without its note", "Isento[^9].", SAME),
            Case(
                "a note without its mark stays",
                "Isento.\n"
                "\n"
                "[^1]: Lei 691/84.",
                SAME,
            ),
            Case(
                "a footnote with a link",
                "Isento[^1].\n"
                "\n"
                "[^1]: [Lei](https://rio.rj.gov.br/lei)",
                "Isento[1].\n"
                "\n"
                "[1] Lei (https://rio.rj.gov.br/lei)",
            ),
        ],
    ),
    Section(
        "Tables",
        "In monospace if 32 columns are enough, aligned by width on the screen; else a block for each row.",
        [
            Case(
                "a narrow table",
                "| Linha | Intervalo |\n"
                "|---|---|\n"
                "| 422 | 10 min |\n"
                "| 100 | 8 min |",
                "```\n"
                "Linha  Intervalo\n"
                "-----  ---------\n"
                "422    10 min\n"
                "100    8 min\n"
                "```",
            ),
            Case(
                "alignment",
                "| Item | Valor |\n"
                "|:---|---:|\n"
                "| IPTU | 1.200,00 |\n"
                "| TCL | 90,00 |",
                "```\n"
                "Item     Valor\n"
                "----  --------\n"
                "IPTU  1.200,00\n"
                "TCL      90,00\n"
                "```",
            ),
            Case(
                "centred",
                "| Dia | Hora |\n"
                "|:---:|:---:|\n"
                "| segunda | 8h |\n"
                "| terça | 10h |",
                "```\n"
                "  Dia    Hora\n"
                "-------  ----\n"
                "segunda   8h\n"
                " terça   10h\n"
                "```",
            ),
            Case(
                "accents and emoji",
                "| Posto | Dose |\n"
                "|---|---|\n"
                "| São João | ✅ |\n"
                "| Maré | 💉💉 |",
                "```\n"
                "Posto     Dose\n"
                "--------  ----\n"
                "São João  ✅\n"
                "Maré      💉💉\n"
                "```",
            ),
            Case(
                "a wide table",
                "| Unidade | Endereço | Telefone |\n"
                "|---|---|---|\n"
                "| CMS Heitor Beltrão | Rua Desembargador Isidro, 144 | (21) 2568-1234 |\n"
                "| CF Estácio | Rua do Bispo, 5 | (21) 2293-0000 |",
                "*Unidade:* CMS Heitor Beltrão\n"
                "*Endereço:* Rua Desembargador Isidro, 144\n"
                "*Telefone:* (21) 2568-1234\n"
                "\n"
                "*Unidade:* CF Estácio\n"
                "*Endereço:* Rua do Bispo, 5\n"
                "*Telefone:* (21) 2293-0000",
            ),
            Case(
                "a table with links",
                "| Serviço | Site |\n"
                "|---|---|\n"
                "| IPTU | [Emitir](https://carioca.rio/iptu) |",
                "*Serviço:* IPTU\n"
                "*Site:* Emitir (https://carioca.rio/iptu)",
            ),
            Case(
                "a table with bold",
                "| **Linha** | **Ponto** |\n"
                "|---|---|\n"
                "| **422** | Grajaú |",
                "```\n"
                "Linha  Ponto\n"
                "-----  ------\n"
                "422    Grajaú\n"
                "```",
            ),
            Case(
                "a wide table with bold",
                "| **Unidade de saúde mais próxima** | Horário de atendimento |\n"
                "|---|---|\n"
                "| **CMS** | 8h–17h |",
                "*Unidade de saúde mais próxima:* *CMS*\n"
                "*Horário de atendimento:* 8h–17h",
            ),
            Case(
                "a table with code",
                "| Serviço | Código |\n"
                "|---|---|\n"
                "| Dengue | `1746` |",
                "*Serviço:* Dengue\n"
                "*Código:* `1746`",
            ),
            Case(
                "an empty cell in a wide table",
                "| Unidade de atendimento | Telefone |\n"
                "|---|---|\n"
                "| Centro Administrativo São Sebastião | |\n"
                "| Méier | 1746 |",
                "*Unidade de atendimento:* Centro Administrativo São Sebastião\n"
                "\n"
                "*Unidade de atendimento:* Méier\n"
                "*Telefone:* 1746",
            ),
            Case(
                "a cell too many",
                "| A | B |\n"
                "|---|---|\n"
                "| 1 | 2 | 3 |",
                "```\n"
                "A  B\n"
                "-  -  -\n"
                "1  2  3\n"
                "```",
            ),
            Case(
                "a cell too few",
                "| A | B |\n"
                "|---|---|\n"
                "| 1 |",
                "```\n"
                "A  B\n"
                "-  -\n"
                "1\n"
                "```",
            ),
            Case(
                "an escaped bar",
                "| Opção | Valor |\n"
                "|---|---|\n"
                "| a \\| b | 1 |",
                "```\n"
                "Opção  Valor\n"
                "-----  -----\n"
                "a | b  1\n"
                "```",
            ),
            Case(
                "no outer bars",
                "Linha | Ponto\n"
                "---|---\n"
                "422 | Grajaú",
                "```\n"
                "Linha  Ponto\n"
                "-----  ------\n"
                "422    Grajaú\n"
                "```",
            ),
            Case(
                "text right after a table",
                "| A | B |\n"
                "|---|---|\n"
                "| 1 | 2 |\n"
                "Fonte: SMTR",
                "```\n"
                "A  B\n"
                "-  -\n"
                "1  2\n"
                "```\n"
                "Fonte: SMTR",
            ),
            Case(
                "a table after a line",
                "Horários:\n"
                "| Dia | Hora |\n"
                "|---|---|\n"
                "| seg | 8h |",
                "Horários:\n"
                "```\n"
                "Dia  Hora\n"
                "---  ----\n"
                "seg  8h\n"
                "```",
            ),
            Case(
                "a head without rows",
                "| Dia | Hora |\n"
                "|---|---|",
                "```\n"
                "Dia  Hora\n"
                "---  ----\n"
                "```",
            ),
            Case("bars that are no table", "Seg | Ter | Qua", SAME),
            Case(
                "a header with a colon",
                "| Unidade de atendimento ao contribuinte: | Vagas? |\n"
                "|---|---|\n"
                "| Centro | 10 |",
                "*Unidade de atendimento ao contribuinte:* Centro\n"
                "*Vagas?* 10",
            ),
        ],
    ),
    Section(
        "HTML",
        "Known tags are rendered and entities are decoded. Everything else is text.",
        [
            Case("bold and italic tags", "<b>IPTU</b> e <i>ISS</i>", "*IPTU* e _ISS_"),
            Case(
                "strong, em and del",
                "<strong>IPTU</strong>, <em>ISS</em>, <del>ITBI</del>",
                "*IPTU*, _ISS_, ~ITBI~",
            ),
            Case(
                "a line break",
                "Rua Afonso Cavalcanti, 455<br>Cidade Nova<br/>Rio",
                "Rua Afonso Cavalcanti, 455\n"
                "Cidade Nova\n"
                "Rio",
            ),
            Case(
                "a link",
                "<a href=\"https://carioca.rio/?a=1&amp;b=2\">Carioca Digital</a>",
                "Carioca Digital (https://carioca.rio/?a=1&b=2)",
            ),
            Case(
                "an image",
                "<img src=\"https://rio.rj.gov.br/m.png\" alt=\"Mapa\">",
                "🖼 Mapa: https://rio.rj.gov.br/m.png",
            ),
            Case("code", "Digite <code>1746</code>", "Digite `1746`"),
            Case(
                "a list",
                "<ul>\n"
                "<li>RG</li>\n"
                "<li>CPF</li>\n"
                "</ul>",
                "- RG\n"
                "- CPF",
            ),
            Case(
                "a numbered list",
                "<ol><li>Acesse</li><li>Emita</li></ol>",
                "1. Acesse\n"
                "2. Emita",
            ),
            Case(
                "paragraphs",
                "<p>Primeiro</p><p>Segundo</p>",
                "Primeiro\n"
                "\n"
                "Segundo",
            ),
            Case("a raised number", "60 m<sup>2</sup> e 10<sup>3</sup>", "60 m² e 10³"),
            Case(
                "a heading",
                "<h2>Documentos</h2>\n"
                "RG e CPF",
                "*Documentos*\n"
                "RG e CPF",
            ),
            Case(
                "tags that a chat cannot show",
                "<span style=\"color:red\">Prazo</span> de <u>5 dias</u>",
                "Prazo de 5 dias",
            ),
            Case("a placeholder is text", "Informe <CPF> e <data de nascimento>.", SAME),
            Case("an unknown tag is text", "<script>alert(1)</script>", SAME),
            Case("a comment is text", "<!-- revisar -->", SAME),
            Case("an unclosed tag", "<b>Prazo de 5 dias", "*Prazo de 5 dias*"),
            Case("an unopened tag", "Prazo</b> de 5 dias", "Prazo de 5 dias"),
            Case(
                "upper case",
                "<B>IPTU</B><BR>2025",
                "*IPTU*\n"
                "2025",
            ),
        ],
    ),
    Section(
        "Loose syntax",
        "Accepts more than CommonMark, because people and models write loosely.",
        [
            Case(
                "a label without a space after it",
                "**Endereço:**Rua Afonso Cavalcanti, 455",
                "*Endereço:* Rua Afonso Cavalcanti, 455",
            ),
            Case("a space on the wrong side", "**Atenção: **leve o RG", "*Atenção:* leve o RG"),
            Case(
                "a label in the middle of a line",
                "Posto Centro **Tel.:**2222-1746",
                "Posto Centro *Tel.:* 2222-1746",
            ),
            Case("four spaces are not code", "    Leve RG e CPF ao posto.", SAME),
            Case("a tab is not code", "\tLeve RG e CPF ao posto.", SAME),
            Case("a bracketed note", "[Nota]: o prazo é de 30 dias.", SAME),
            Case("brackets in a sentence", "[Importante] leve o RG [original]", SAME),
            Case("a placeholder", "Olá, [nome]! Seu protocolo é <protocolo>.", SAME),
            Case(
                "a line over dashes",
                "Resumo\n"
                "------\n"
                "Tudo pago.",
                "Resumo\n"
                "\n"
                "Tudo pago.",
            ),
            Case(
                "a list indented by eye",
                "Leve:\n"
                "    - RG\n"
                "    - CPF",
                SAME,
            ),
            Case(
                "line ends stay",
                "Segunda a sexta: 8h às 17h\n"
                "Sábado: 8h às 12h",
                SAME,
            ),
            Case(
                "two spaces at a line's end",
                "Segunda a sexta  \n"
                "Sábado",
                SAME,
            ),
            Case(
                "a backslash at a line's end",
                "Segunda a sexta\\\n"
                "Sábado",
                "Segunda a sexta\n"
                "Sábado",
            ),
            Case(
                "Windows line ends",
                "Segunda\r\n"
                "Terça\r\n"
                "\r\n"
                "Quarta",
                "Segunda\n"
                "Terça\n"
                "\n"
                "Quarta",
            ),
            Case(
                "blank lines around",
                "\n"
                "\n"
                "Olá!\n"
                "\n",
                "Olá!",
            ),
            Case(
                "three blank lines",
                "**Olá!**\n"
                "\n"
                "\n"
                "\n"
                "Tudo bem?",
                "*Olá!*\n"
                "\n"
                "Tudo bem?",
            ),
        ],
    ),
    Section(
        "Unchanged",
        "Plain text, and text that is already in WhatsApp's syntax.",
        [
            Case("a sentence", "Olá! Seu IPTU está pago.", SAME),
            Case(
                "an address block",
                "Rua Afonso Cavalcanti, 455\n"
                "Cidade Nova – 20211-110\n"
                "Tel.: (21) 3460-1746",
                SAME,
            ),
            Case("prices and percentages", "R$ 1.200,00 à vista (7% de desconto) ou 10x R$ 120,00", SAME),
            Case("dates and times", "De 01/02/2025 a 31/05/2025, das 8h às 17h30", SAME),
            Case("emoji", "👩🏽‍⚕️ Vacine-se! 💉🇧🇷", SAME),
            Case(
                "a list of dashes",
                "- RG\n"
                "- CPF",
                SAME,
            ),
            Case(
                "indentation and blank lines in plain text",
                "Linha 422:\n"
                "   Grajaú\n"
                "\n"
                "\n"
                "   Cosme Velho",
                SAME,
            ),
            Case(
                "WhatsApp's bold and italic",
                "*Prefeitura do Rio*\n"
                "_Atendimento ao cidadão_",
                SAME,
            ),
            Case("WhatsApp's strike", "*Novo prazo:* 31/05 ~10/05~", SAME),
            Case(
                "WhatsApp's label",
                "*Protocolo:* RIO-123\n"
                "*Prazo:* 5 dias",
                SAME,
            ),
            Case(
                "WhatsApp's title",
                "*Segunda via do IPTU*\n"
                "\n"
                "Acesse o site e informe a inscrição.",
                SAME,
            ),
            Case("WhatsApp's nesting", "_*Atenção*_: leve o RG", SAME),
            Case(
                "WhatsApp's own, with a URL that looks like Markdown",
                "*Prazo:* 5 dias\n"
                "https://carioca.rio/a__b__c",
                SAME,
            ),
            Case(
                "WhatsApp's own, with blanks and a masked number",
                "*Nome:* ______\n"
                "*CPF:* ***.456.789-**",
                SAME,
            ),
            Case("WhatsApp's monospace", "*Código* ```RIO-123```", SAME),
            Case("a star alone is Markdown's italic", "Leve *sempre* o RG.", "Leve _sempre_ o RG."),
            Case("an empty text", "", SAME),
            Case(
                "only spaces",
                "   \n"
                " ",
                "",
            ),
        ],
    ),
    Section(
        "Whole answers",
        "Answers as agents write them.",
        [
            Case(
                "a second copy of the IPTU bill",
                "## 2ª via do IPTU 2025\n"
                "\n"
                "Para emitir a **segunda via**:\n"
                "\n"
                "1. Acesse o [Carioca Digital](https://carioca.rio/iptu);\n"
                "2. Informe a **inscrição imobiliária** (8 dígitos);\n"
                "3. Escolha *cota única* ou parcelado.\n"
                "\n"
                "| Opção | Valor |\n"
                "|---|---:|\n"
                "| Cota única | R$ 1.116,00 |\n"
                "| 10 cotas | R$ 120,00 |\n"
                "\n"
                "---\n"
                "\n"
                "**Dúvidas?** Ligue **1746**.",
                "*2ª via do IPTU 2025*\n"
                "\n"
                "Para emitir a *segunda via*:\n"
                "\n"
                "1. Acesse o Carioca Digital (https://carioca.rio/iptu);\n"
                "2. Informe a *inscrição imobiliária* (8 dígitos);\n"
                "3. Escolha _cota única_ ou parcelado.\n"
                "\n"
                "```\n"
                "Opção             Valor\n"
                "----------  -----------\n"
                "Cota única  R$ 1.116,00\n"
                "10 cotas      R$ 120,00\n"
                "```\n"
                "\n"
                "*Dúvidas?* Ligue *1746*.",
            ),
            Case(
                "vaccination steps",
                "### 💉 Gripe\n"
                "\n"
                "Quem pode:\n"
                "\n"
                "* Idosos (**60+**)\n"
                "* Gestantes\n"
                "* Crianças\n"
                "    * De 6 meses a 5 anos\n"
                "\n"
                "> ⚠️ Leve a **caderneta**.\n"
                "\n"
                "**Posto:** CMS Heitor Beltrão\n"
                "**Horário:** 8h–17h",
                "*💉 Gripe*\n"
                "\n"
                "Quem pode:\n"
                "\n"
                "- Idosos (*60+*)\n"
                "- Gestantes\n"
                "- Crianças\n"
                "  - De 6 meses a 5 anos\n"
                "\n"
                "> ⚠️ Leve a *caderneta*.\n"
                "\n"
                "*Posto:* CMS Heitor Beltrão\n"
                "*Horário:* 8h–17h",
            ),
            Case(
                "bus lines",
                "**Linhas que passam na Central:**\n"
                "\n"
                "- **422** – Grajaú × Cosme Velho\n"
                "- **100** – Rodoviária × Siqueira Campos\n"
                "\n"
                "*Intervalo médio: 10 min.*",
                "*Linhas que passam na Central:*\n"
                "\n"
                "- *422* – Grajaú × Cosme Velho\n"
                "- *100* – Rodoviária × Siqueira Campos\n"
                "\n"
                "_Intervalo médio: 10 min._",
            ),
            Case(
                "a pothole report",
                "Seu chamado foi aberto ✅\n"
                "\n"
                "**Protocolo:** `RIO-2025-000123`\n"
                "**Prazo:** 5 dias úteis\n"
                "\n"
                "Acompanhe em https://1746.rio/chamado?id=RIO_2025_000123",
                "Seu chamado foi aberto ✅\n"
                "\n"
                "*Protocolo:* `RIO-2025-000123`\n"
                "*Prazo:* 5 dias úteis\n"
                "\n"
                "Acompanhe em https://1746.rio/chamado?id=RIO_2025_000123",
            ),
        ],
    ),
]
# fmt: on

ALL = [pytest.param(case, id=f"{section.title}: {case.name}") for section in SECTIONS for case in section.cases]


@pytest.mark.parametrize("case", ALL)
def test_a_case_comes_out_as_written_in_the_table(case: Case) -> None:
    assert render(case.markdown).replace(HAIR_SPACE, SHOWN_HAIR_SPACE) == case.expected


def test_the_table_has_two_hundred_cases_and_no_name_twice() -> None:
    assert len(ALL) >= 200
    assert all(len({case.name for case in section.cases}) == len(section.cases) for section in SECTIONS)


PAGE = Path(__file__).parents[3] / "docs" / "formatting.md"

INTRODUCTION = f"""# Formatting

How an agent's Markdown looks on WhatsApp. This page is generated from the table in
`services/formatter/tests/test_formatter_render_cases.py`. Its {{count}} cases are tests. Do not edit this page;
run that file.

`{SHOWN_HAIR_SPACE}` shows a hair space (U+200A). It stops a literal marker from starting a style. In a case with one
block, the text does not change.

## Pieces

A reply longer than 4096 characters (UTF-16 code units, the stricter way to count) is cut into pieces: at a paragraph,
else at a line, else after a sentence, else at a word. The joined pieces are the whole text, including white space. If
a style or a code block continues over a cut, it is closed in one piece and reopened in the next. These markers are the
only added characters. No cut is inside a URL, a line of code or a grapheme, unless that alone is longer than a piece.
If possible, no piece ends with a heading or with a line that ends in a colon.

A text longer than 250,000 characters is no reply. It counts as plain text.

## Other chats

The message's `channel` chooses the profile (`eai_formatter/channels.py`). `PLAIN_TEXT` writes no markers, and writes
tables row by row. `TELEGRAM` writes MarkdownV2: links in the text, reserved characters escaped, styles inside words.
"""


def page() -> str:
    """`docs/formatting.md` as it should be."""
    parts = [INTRODUCTION.format(count=len(ALL))]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n\n{section.rule}\n")
        parts += [_entry(case) for case in section.cases]
    return "\n".join(parts)


def _entry(case: Case) -> str:
    blocks = [_block(case.markdown)] if case.whatsapp is None else [_block(case.markdown), _block(case.whatsapp)]
    return f"**{case.name[0].upper()}{case.name[1:]}**\n\n" + "\n".join(blocks)


def _block(text: str) -> str:
    text = text.replace("\r", "␍")
    fence = "`````" if "````" in text else "````"
    return f"{fence}text\n{text}\n{fence}\n" if text.strip() else "(nothing)\n"


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run: python {Path(__file__).name}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
