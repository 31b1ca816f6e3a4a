"""The config: composed, checked as a whole, resolved.  Nothing here imports torch."""
