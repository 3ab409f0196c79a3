"""Wan 2.1 as a causal few-step world: the released Causal Forcing and minWM models."""
