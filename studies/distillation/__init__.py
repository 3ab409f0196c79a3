"""Distillation compared: `worldmodel evaluate --compare FILE` in a checkout (README.md here)."""
