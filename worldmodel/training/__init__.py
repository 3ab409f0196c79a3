"""From episodes to a playable world: three stages, one loop.

autoencoder  ->  teacher_forcing (the causal teacher)  ->  consistency (the few-step student)
"""
