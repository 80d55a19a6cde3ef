"""Asks the right AI agent, once."""
