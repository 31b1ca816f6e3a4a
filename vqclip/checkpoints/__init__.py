"""Checkpoints: cards that say where weights are, and the models that come of them."""
