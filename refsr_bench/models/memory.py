"""Reuse of large blocks of memory by a process on Linux."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
"""Settings of glibc's allocator, ``M_…`` in its malloc.h: what it keeps, and what it asks for apart."""
NEVER = 2**31 - 1
USUAL = 32 << 20
"""The threshold that glibc's own adjustment arrives at once a program has freed a large block."""
USUAL_COUNT, USUAL_PAD = 65536, 128 << 10
SPARE = 100 << 20


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Let freed blocks above 32 MB be handed out again inside the ``with``; afterwards all free memory is given back.

    glibc otherwise returns each to the system at once, and a fresh one costs half a second a GB, for the system clears
    its pages at first use: at 500×332 px a sixth of the networks' time. Without glibc nothing happens.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    set_option = libc.mallopt
    set_option(MMAP_MAX, 0)
    set_option(TRIM_THRESHOLD, NEVER)
    set_option(TOP_PAD, SPARE)
    try:
        yield
    finally:
        set_option(MMAP_MAX, USUAL_COUNT)
        set_option(MMAP_THRESHOLD, USUAL)
        set_option(TRIM_THRESHOLD, 2 * USUAL)
        set_option(TOP_PAD, USUAL_PAD)
        return_free_memory()


def return_free_memory() -> None:
    """Give memory that is free, but still held for reuse, back to the system; without glibc nothing happens."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "malloc_trim") else None
