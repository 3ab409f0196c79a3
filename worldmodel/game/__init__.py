"""Playing a world: devices, the thread that makes frames, the window, scripted players.

This is the only package that imports pygame. It may import `worlds`, `reference` and `storage`, and
knows the `World` protocol, never a network; `play.py` joins the two. Begin with `launch`, then
`loop`, `play_session` and `generator`.
"""
