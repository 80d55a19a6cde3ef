"""Converts Markdown to chat messages. Pure functions: no I/O, no clock, no settings."""

from eai_formatter.rendering.plain import PLAIN_TEXT
from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.reply import Formatted, format_reply, render
from eai_formatter.rendering.splitting import LIMIT, split
from eai_formatter.rendering.telegram import TELEGRAM
from eai_formatter.rendering.whatsapp import WHATSAPP

__all__ = ["LIMIT", "PLAIN_TEXT", "TELEGRAM", "WHATSAPP", "Formatted", "Profile", "format_reply", "render", "split"]
