"""The start screen and the menu: worlds, starts, saved moments, settings, keys."""
