"""Playing a world: devices, the thread that makes frames, the window, scripted players.

This is the only part of the package that imports pygame. It knows the `World` protocol and never
a backend; `play.py` joins the two.
"""
