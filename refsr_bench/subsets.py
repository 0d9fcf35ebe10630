"""Named subsets of a dataset's samples, frozen by rule.

``texture``: the quarter of the samples whose HR pictures have the highest gradient energy. The C2-Matching paper
scores its ablation on such a subset but does not publish the list; this is our own, the same wherever the HR pictures
are. Builders tag it (`tag_texture`); for a dataset without tags it is found by the same rule (`choose_texture`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from refsr_bench.schema import Record

TEXTURE = "texture"
SUBSETS = (TEXTURE,)


def choose_texture(energies: Mapping[str, int]) -> frozenset[str]:
    """Names of the quarter (rounded up) with the highest gradient energy; equal energies go by name.

    >>> sorted(choose_texture({"a": 1, "b": 3, "c": 3, "d": 2, "e": 0}))
    ['b', 'c']
    """
    ranked = sorted(energies, key=lambda name: (-energies[name], name))
    return frozenset(ranked[: math.ceil(len(ranked) / 4)])


def tag_texture(records: Sequence[Record], energies: Mapping[str, int]) -> list[Record]:
    """The records, those of the subset tagged; ``energies`` are `refsr_bench.images.gradient_energy` of each HR."""
    chosen = choose_texture(energies)
    return [
        record.model_copy(update={"tags": (*record.tags, TEXTURE)}) if record.name in chosen else record
        for record in records
    ]
