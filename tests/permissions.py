"""A user whom the system can refuse something, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Read and write what permissions forbid: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_BOTH = 0b110
_VERSION = 0x20080522


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions count for root too; for anybody else they do anyway."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, data = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, data) == 0
    before = data[0]
    data[0] = before & ~_BOTH
    assert libc.capset(head, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(head, data) == 0
