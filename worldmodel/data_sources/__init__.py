"""Real games that are recorded: Doom by ViZDoom, and any Gymnasium environment.

It may import `storage`, `players` and the `world` protocol. Begin with `record`, which
is the same for all of them; `action_mapping` says what a key means to an environment.
"""
