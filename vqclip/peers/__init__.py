"""Other programs' settings: their meaning, and their equivalents here (``*.yaml``)."""
