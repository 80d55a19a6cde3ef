"""Turns voice messages into text."""
