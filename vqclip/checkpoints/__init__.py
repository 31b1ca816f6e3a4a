"""Checkpoints: cards that say where weights are, and the models that are loaded by them."""
