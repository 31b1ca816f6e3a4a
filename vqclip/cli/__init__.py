"""The command line."""

from vqclip.cli.main import main

__all__ = ["main"]
