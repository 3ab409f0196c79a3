"""From episodes to a playable world: every stage, one loop.

autoencoder -> teacher_forcing (causal teacher) -> consistency, or trajectories -> ode (students)
            -> bidirectional (the judge)        -> dmd (a student that learns from its own play)
            -> decoder -> export
"""
