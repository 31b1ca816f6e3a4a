"""The comparison of a sweep, or of any runs."""
