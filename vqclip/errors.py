"""The one exception for a user's mistake."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Something the user can mend.

    The message says what failed, the full key, what was given, what is allowed and the command that mends it.  The
    command line prints it without a traceback and exits with status 2.
    """
