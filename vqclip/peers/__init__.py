"""Other programs' settings: what each means there, and what is typed here (``*.yaml``)."""
