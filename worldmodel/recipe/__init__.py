"""One command from nothing to a world that can be played, within a budget of minutes."""
