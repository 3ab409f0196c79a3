"""Measuring worlds: quality against the real game, whether places stay, and speed.

It may import whatever a measurement needs, training included; only `recipe` and `commands` import
it. Begin with `whole_evaluation`, which runs every part and keeps what is known.
"""
