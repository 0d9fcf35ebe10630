"""The signature every number carries: which metric, and every choice that can change its value.

Text form: the metric's name, then ``key:value`` pairs, joined by ``|``::

    psnr_y|data:demo@1f3c9a|n:21|ref:first|x:4|lr:pil.bicubic|mod:crop4|pad:zero2ref|q:round8|ch:y601studio|crop:4|...

Two numbers may be compared exactly when their signatures are equal. `refsr_bench.protocols.spec` explains every key.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from refsr_bench.errors import UsageError


class Signature(NamedTuple):
    """A metric's name and its ordered (key, value) pairs."""

    metric: str
    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "|".join([self.metric, *(f"{key}:{value}" for key, value in self.fields)])

    def without(self, keys: frozenset[str]) -> tuple[tuple[str, str], ...]:
        """The pairs whose key is not among ``keys``."""
        return tuple(pair for pair in self.fields if pair[0] not in keys)


def fits(part: str) -> bool:
    """Whether a name or value can stand in a signature: it is not empty and has no blanks, ``|`` or ``:``."""
    return bool(part) and not any(c in "|:" or ord(c) <= 32 for c in part)


def make_signature(metric: str, fields: dict[str, str]) -> Signature:
    """Build a signature; `ValueError` if a name or value would break its text form."""
    for part in (metric, *fields, *fields.values()):
        if not fits(part):
            raise ValueError(f"{part!r} cannot be part of a signature")
    return Signature(metric, tuple(fields.items()))


@functools.lru_cache(maxsize=4096)  # tables ask for the same few signatures once a row
def parse_signature(text: str) -> Signature:
    """Read a signature's text form; `UsageError` says where it breaks.

    >>> parse_signature("psnr_y|crop:4").fields
    (('crop', '4'),)
    """
    metric, *pairs = text.strip().split("|")
    fields: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition(":")
        if not separator:
            raise UsageError(f"{pair!r} is not a key:value pair, so this is not a signature: {text!r}")
        if key in fields:
            raise UsageError(f"the key {key!r} stands twice in the signature {text!r}")
        fields[key] = value
    try:
        return make_signature(metric, fields)
    except ValueError as error:
        raise UsageError(f"{error}: {text!r}") from None
