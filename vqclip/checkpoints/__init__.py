"""Checkpoints: cards, which say where weights are, and the models loaded from them."""
