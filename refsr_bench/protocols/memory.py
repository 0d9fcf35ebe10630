"""How much memory a run needed."""

from __future__ import annotations

import sys


def peak_memory_bytes() -> int | None:
    """Largest resident set of this process so far; None on Windows, which does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
