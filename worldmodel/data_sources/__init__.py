"""Real games: what worlds are learned from and measured against."""
