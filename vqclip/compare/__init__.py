"""Compares the runs of a sweep, or any runs."""
