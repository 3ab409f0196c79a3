"""Trying everything that must not break, on the user's own machine."""
