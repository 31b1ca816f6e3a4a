"""One run: its folder, from a config to pictures."""
