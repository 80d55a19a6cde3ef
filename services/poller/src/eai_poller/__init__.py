"""Answers polls from the stored results."""
