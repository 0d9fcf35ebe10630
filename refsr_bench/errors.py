"""Every error this package raises on purpose, and the exit code each one ends the program with.

::

    RefsrError                 1   an internal fault, never shown for bad input
    ├── UsageError             2   an unknown name, option or key; a request that cannot be met as asked
    ├── ManualStepNeeded       3   a file or key only a person can provide; the exact command is printed
    ├── IntegrityError         4   a hash, manifest or checkpoint that is not what it claims to be
    │   └── ImageError         4   a picture that is truncated, disguised, too large or not a picture
    ├── StorageError           4   a disk that is full, or a folder that cannot be written
    ├── ItemsFailed            5   the run finished, some items did not; each one is a row with a reason
    ├── NetworkError           6   the network failed; the same command resumes
    ├── SignatureMismatch      7   numbers measured in different ways were about to be compared
    └── RegressionFound        8   a comparison fell below its limit

Interrupted runs end with 130 (Ctrl-C) or 143 (SIGTERM), their state saved.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class RefsrError(Exception):
    """What went wrong in one sentence that names the file or option, and the remedy in another."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return self.problem if self.remedy is None else f"{self.problem}\n  {self.remedy}"


class UsageError(RefsrError):
    """The request cannot be met as asked: an unknown name, option, key or impossible combination."""

    exit_code = 2


class ManualStepNeeded(RefsrError):
    """A person has to provide a file or a key first; the remedy is the exact command."""

    exit_code = 3


class IntegrityError(RefsrError):
    """A hash, manifest, archive or checkpoint is not what it claims to be."""

    exit_code = 4


class ImageError(IntegrityError):
    """A picture is truncated, disguised, too large, or not a picture at all."""


class StorageError(RefsrError):
    """The disk is full or a folder cannot be written; nothing half-written is left visible."""

    exit_code = 4


class ItemsFailed(RefsrError):
    """The run finished, but some of its items failed; every failure is a row with its reason."""

    exit_code = 5


class NetworkError(RefsrError):
    """The network failed or asked us to wait; what was fetched is kept and the same command resumes."""

    exit_code = 6


class SignatureMismatch(RefsrError):
    """Numbers with different signatures were about to be ranked or compared."""

    exit_code = 7


class RegressionFound(RefsrError):
    """A comparison found scores below the allowed limit."""

    exit_code = 8


def first_few(items: Sequence[str], most: int) -> list[str]:
    """The first ``most`` items for a message and, if there are more, how many more.

    >>> first_few(["a", "b", "c", "d"], 2)
    ['a', 'b', 'and 2 more']
    >>> first_few(["a", "b"], 2)
    ['a', 'b']
    """
    return [*items[:most], *([f"and {len(items) - most} more"] if len(items) > most else [])]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Remedy text for an unknown name: the nearest known one, then all of them.

    >>> did_you_mean("bicubik", ["bicubic", "c2matching"])
    'did you mean "bicubic"? (known: bicubic, c2matching)'
    >>> did_you_mean("x", [])
    'none are known'
    """
    names = sorted(known)
    if not names:
        return "none are known"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listing = f"known: {', '.join(names)}"
    return f'did you mean "{near[0]}"? ({listing})' if near else listing
