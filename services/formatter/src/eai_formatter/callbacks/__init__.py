"""Delivers results by signed callback: a stage of its own, so that a slow receiver never delays formatting."""

from eai_formatter.callbacks.resolving import SharedResolver
from eai_formatter.callbacks.sender import CallbackSender
from eai_formatter.callbacks.settings import CallbackSettings
from eai_formatter.callbacks.stage import callback_policy, callback_stage

__all__ = ["CallbackSender", "CallbackSettings", "SharedResolver", "callback_policy", "callback_stage"]
