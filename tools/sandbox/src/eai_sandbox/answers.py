"""The texts of the sandbox's assistant: functions from a question and its history to Portuguese Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from eai_sandbox.conversation import Message, Role

__all__ = [
    "answer_to",
    "asks_what_was_said",
    "normalise",
    "thoughts_on",
    "wants_long_answer",
    "wants_thoughts",
    "wants_tool",
]

_ASKS = re.compile(
    r"\b(o que|o q|oque|oq|que|what)( e)?( foi)?( q| que| did| have)? (eu|i)( te| lhe| ja)? "
    r"(disse|dise|falei|falava|dizia|perguntei|escrevi|mandei|said|say|ask|tell)\b"
    r"|\bminha (ultima|mensagem anterior|pergunta anterior)\b"
)
_CANONICAL_QUESTIONS = ("o que eu disse antes", "o que foi que eu disse antes", "o que eu falei antes")
_SIMILAR_ENOUGH = 0.85


def normalise(text: str) -> str:
    """Lower case, without accents, punctuation and extra spaces: two spellings of one question become equal."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return " ".join(re.sub(r"[^\w\s]", " ", plain).split())


def asks_what_was_said(question: str) -> bool:
    """Whether the user asks for their previous message; tolerates misspellings."""
    asked = normalise(question)
    if _ASKS.search(asked):
        return True
    return any(SequenceMatcher(None, asked, known).ratio() >= _SIMILAR_ENOUGH for known in _CANONICAL_QUESTIONS)


def wants_tool(question: str) -> bool:
    """Whether the user asks for a tool call."""
    return "use uma ferramenta" in normalise(question)


def wants_thoughts(question: str) -> bool:
    """Whether the user asks for reasoning, by the whole word "pense"."""
    return re.search(r"\bpense\b", normalise(question)) is not None


def wants_long_answer(question: str) -> bool:
    """Whether the user asks for an answer longer than one WhatsApp message."""
    return "resposta longa" in normalise(question)


@dataclass(frozen=True, slots=True)
class _Topic:
    title: str
    words: frozenset[str]  # normalised; English ones too, because the recogniser hears English
    steps: tuple[str, str, str]
    link: str


_TOPICS = (
    _Topic(
        "Saúde",
        frozenset({"saude", "hospital", "medico", "medica", "vacina", "posto", "doctor", "health", "clinic"}),
        (
            "Procure a **Clínica da Família** da sua área",
            "Leve um documento com foto e o cartão do SUS",
            "Em uma emergência, ligue para o **192**",
        ),
        "[Onde ser atendido](https://www.example.org/saude)",
    ),
    _Topic(
        "IPTU",
        frozenset({"iptu", "imposto", "boleto", "tributo", "tax"}),
        (
            "Tenha em mãos a **inscrição imobiliária**",
            "Emita a segunda via no portal",
            "Pague a cota única com *7% de desconto*",
        ),
        "[Segunda via do IPTU](https://www.example.org/iptu)",
    ),
    _Topic(
        "Iluminação e vias públicas",
        frozenset({"buraco", "luz", "poste", "lampada", "rua", "asfalto", "street", "light"}),
        (
            "Informe o **endereço completo** e um ponto de referência",
            "Se puder, envie uma foto",
            "Guarde o número do **protocolo**",
        ),
        "[Abrir um chamado](https://www.example.org/chamados)",
    ),
)
_ANY_TOPIC = _Topic(
    "Atendimento ao cidadão",
    frozenset(),
    (
        "Diga **qual serviço** você procura",
        "Informe o seu *bairro*",
        "Se preferir, ligue para o **1746**",
    ),
    "[Portal de serviços](https://www.example.org/servicos)",
)


def answer_to(question: str, history: Sequence[Message]) -> str:
    """The assistant's reply in Markdown; `history` is the conversation before the question, oldest first."""
    if asks_what_was_said(question):
        return _what_was_said(history)
    topic = _topic_of(question)
    parts = [
        f"## {topic.title}",
        f"Olá! Você perguntou:\n\n{_quoted(question)}",
        "**O que fazer:**",
        _listed(topic.steps),
    ]
    if wants_long_answer(question):
        parts += [f"### Detalhe {number}\n\n{_DETAIL}" for number in range(1, 25)]
    parts.append(f"Saiba mais: {topic.link}")
    return "\n\n".join(parts)


_DETAIL = (
    "O atendimento é gratuito e pode ser feito por qualquer pessoa, **sem intermediários**. "
    "Os prazos contam a partir do dia útil seguinte ao pedido, e a situação pode ser acompanhada pelo protocolo. "
    "Se algum documento faltar, a equipe entra em contato por mensagem. Leve sempre um documento com foto, "
    "e confira o endereço e o horário antes de sair de casa."
)


def thoughts_on(question: str) -> str:
    """The assistant's reasoning."""
    return f"O cidadão escreveu {question!r}. Vou ver qual é o assunto e responder com os passos."


def _what_was_said(history: Sequence[Message]) -> str:
    said = [message.text for message in history if message.role is Role.HUMAN]
    if not said:
        return "Esta é a **primeira mensagem** que você me manda nesta conversa."
    return f"**Antes, você disse:**\n\n{_quoted(said[-1])}"


def _topic_of(question: str) -> _Topic:
    words = set(normalise(question).split())
    return next((topic for topic in _TOPICS if topic.words & words), _ANY_TOPIC)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
