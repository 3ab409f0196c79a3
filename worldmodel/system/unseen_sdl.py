"""Environments that draw with SDL, where nobody looks at their window."""

import os

SETTINGS = {
    "SDL_VIDEODRIVER": "dummy",  # without a display it would complain
    "SDL_AUDIODRIVER": "dummy",
    "SDL_NO_SIGNAL_HANDLERS": "1",  # else it swallows SIGTERM, with no window to close
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


def let_sdl_draw_unseen() -> None:
    """For this process and those that it starts; what is set already stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
