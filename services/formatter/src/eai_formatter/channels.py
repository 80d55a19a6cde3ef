"""The formatting profile of each channel. A new channel adds its line here."""

from __future__ import annotations

from collections.abc import Mapping

from eai_formatter.rendering import PLAIN_TEXT, TELEGRAM, WHATSAPP, Profile

__all__ = ["PROFILES", "profile_for"]

PROFILES: Mapping[str, Profile] = {"whatsapp": WHATSAPP, "telegram": TELEGRAM}


def profile_for(channel: str) -> Profile:
    """The channel's profile; plain text for a channel that has none."""
    return PROFILES.get(channel, PLAIN_TEXT)
