"""Measuring worlds: quality against the real game, and speed."""
