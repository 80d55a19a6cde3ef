"""Delivers results by signed callback, in a stage of its own, so that a slow receiver never delays formatting."""

from eai_formatter.callbacks.resolving import SharedResolver
from eai_formatter.callbacks.sender import CallbackSender
from eai_formatter.callbacks.settings import CallbackSettings
from eai_formatter.callbacks.stage import build_callback_policy, build_callback_stage

__all__ = ["CallbackSender", "CallbackSettings", "SharedResolver", "build_callback_policy", "build_callback_stage"]
