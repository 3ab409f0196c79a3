"""Wan 2.1: the causal students of Causal Forcing and minWM, their files, autoencoders and text."""
