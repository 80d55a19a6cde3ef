"""Formats replies, stores results and delivers callbacks."""
