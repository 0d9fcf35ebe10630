"""Reference rules: which of a sample's references a model is given, and in what form. Each is a value of ``ref``.

A rule first picks stored references (`select_references`), then makes of them what the model gets
(`arrange_references`), before the protocol brings everything to one size. ``each`` is no rule but a request to run
every reference in turn (`find_rules`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from refsr_bench.errors import ImageError, UsageError, did_you_mean
from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.schema import Image, Record

EACH = "each"
STITCHED = 5
"""How many references the stitching rules take, as both papers do."""
TTSR_SIDE, MASA_SIDE = 500, 512

REFERENCE_RULES = (
    "first",
    "none",
    *(f"level{k}" for k in range(1, 6)),
    "refK",
    "randomK",
    "all",
    "stitched-ttsr",
    "stitched-masa",
    "lr-native",
    "lr-up",
)
"""Names of the rules; K stands for a number from 1 on."""

_MEANINGS = {
    "first": "the first reference of every sample is used",
    "none": "no reference is used",
    "all": "all references of a sample are given separately, in order",
    "stitched-ttsr": "the first five references, each at the top left of a black 500x500 square, stacked into one",
    "stitched-masa": "the first five references, each centred in a 512x512 square of repeated edges, stacked into one",
    "lr-native": "the LR picture itself, at its own size, is the reference",
    "lr-up": "the LR picture itself, enlarged to HR size by Pillow's bicubic, is the reference",
    EACH: "one reference after the other; the row of a table says which",
}
_NUMBERED = {
    "level": "the reference of similarity level {} is used (1 is the most similar)",
    "ref": "reference number {} of every sample is used, whatever its level",
    "random": "one reference per sample by the frozen random draw number {}",
}
_NUMBER = re.compile(r"(level|ref|random)([1-9]\d{0,2})")


def explain_rule(rule: str) -> str | None:
    """A rule in plain words; None if there is no such rule."""
    match = _NUMBER.fullmatch(rule)
    return _NUMBERED[match[1]].format(match[2]) if match else _MEANINGS.get(rule)


def require_rule(rule: str) -> None:
    """`UsageError` with the nearest rule if there is none called ``rule``."""
    if rule == EACH or explain_rule(rule) is None:
        raise UsageError(f"there is no reference rule called {rule!r}", did_you_mean(rule, (*REFERENCE_RULES, EACH)))


def select_references(rule: str, levels: Sequence[int | None], *, key: str = "") -> tuple[int, ...]:
    """Positions of the stored references a rule picks from a sample's ordered list; ``levels`` are their levels.

    ``key`` names the sample (its dataset and name) for the frozen draws. ``first`` picks the first one if there is
    any. `UsageError` if the rule is unknown or what it asks for is not there.

    >>> select_references("level2", [1, 2, 3])
    (1,)
    """
    require_rule(rule)
    if rule in ("none", "lr-native", "lr-up"):
        return ()
    if rule == "first":
        return (0,) if levels else ()
    if rule == "all":
        return tuple(range(len(levels)))
    if rule.startswith("stitched-"):
        if len(levels) < STITCHED:
            raise UsageError(f"the sample has {len(levels)} reference(s), {rule} stacks {STITCHED}")
        return tuple(range(STITCHED))
    match = _NUMBER.fullmatch(rule)
    assert match is not None
    kind, number = match[1], int(match[2])
    if kind == "random":
        return (_draw(f"{key}|{number}", len(levels)),) if levels else ()
    if kind == "ref":
        if number > len(levels):
            raise UsageError(f"the sample has {len(levels)} reference(s), no number {number}")
        return (number - 1,)
    if number not in levels:
        raise UsageError(f"the sample has no reference of level {number}")
    return (levels.index(number),)


def _draw(key: str, count: int) -> int:
    """A number below ``count`` that depends on ``key`` alone, the same on every machine and in every version."""
    return int.from_bytes(hashlib.sha256(f"refsr-bench references 1|{key}".encode()).digest()[:8], "big") % count


def arrange_references(rule: str, refs: Sequence[Image], make_lr: Callable[[], Image]) -> tuple[Image, ...]:
    """What the protocol and the model get as references: uint8 RGB, any sizes.

    ``make_lr`` gives the LR picture of the HR picture alone (no padding), for the rules that use it as reference.
    """
    if rule == "stitched-ttsr":
        return _stack(refs, TTSR_SIDE, lambda ref: pad_zero(ref, TTSR_SIDE, TTSR_SIDE))
    if rule == "stitched-masa":
        return _stack(refs, MASA_SIDE, lambda ref: _centre(ref, MASA_SIDE))
    if rule == "lr-native":
        return (make_lr(),)
    if rule == "lr-up":
        lr = make_lr()
        return (resize_bicubic(lr, lr.shape[0] * 4, lr.shape[1] * 4),)
    return tuple(refs)


def _stack(refs: Sequence[Image], side: int, to_square: Callable[[Image], Image]) -> tuple[Image, ...]:
    for ref in refs:
        if max(ref.shape[:2]) > side:
            raise ImageError(f"a reference of {ref.shape[1]}x{ref.shape[0]} px does not fit {side}x{side}")
    return (np.concatenate([to_square(ref) for ref in refs]),) if refs else ()


def _centre(ref: Image, side: int) -> Image:
    """Centred with repeated edges; an odd rest goes to the bottom and right, as in the released MASA code."""
    rest = [(side - length) for length in ref.shape[:2]]
    padding = [(each // 2, each - each // 2) for each in rest]
    return np.pad(ref, (*padding, (0, 0)), mode="edge")


def find_rules(text: str, records: Sequence[Record]) -> tuple[str, ...]:
    """The rules that ``text`` asks for: one, several joined by commas, or ``each``.

    ``each`` is one rule for every reference that all samples have: by level where all have the same, else by number.
    """
    if text != EACH:
        rules = tuple(dict.fromkeys(text.split(",")))
        for rule in rules:
            require_rule(rule)
        return rules
    levels = {tuple(ref.level for ref in record.refs) for record in records}
    fewest = min((len(each) for each in levels), default=0)
    if not fewest:
        raise UsageError("--refs each needs at least one reference in every sample")
    first = next(iter(levels))
    if len(levels) == 1 and None not in first and len(set(first)) == len(first):
        return tuple(f"level{level}" for level in first)
    return tuple(f"ref{number}" for number in range(1, fewest + 1))
