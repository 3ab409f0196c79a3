"""From episodes to a playable world: every stage, one training loop.

autoencoder -> teacher_forcing (causal teacher) -> consistency, or trajectories -> ode (students)
            -> bidirectional (the real score)   -> dmd (a student that learns from its own play)
            -> decoder -> export

It may import `model`, `wan`, `worlds` and `storage`; no game and no window. Begin with `stage`
(what a stage brings) and `train_loop` (all the rest).
"""
