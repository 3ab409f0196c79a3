"""Real games that are recorded: Doom by ViZDoom, and any Gymnasium environment.

It may import `storage`, `players` and the `world` protocol. Begin with `record_doom` and
`record_gym`; `action_mapping` says what a key means to an environment.
"""
