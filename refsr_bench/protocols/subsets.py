"""Named subsets of a dataset's samples, frozen by rule.

``texture``: the quarter of the samples whose HR pictures have the highest gradient energy. The C2-Matching paper
scores its ablation on such a subset but does not publish the list; this is our own. It is computed from the HR pictures
in whole numbers, so it is the same wherever they are, and its signature carries a hash of the chosen names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.schema import Image, Record
from refsr_bench.store import Dataset, read_stored_image

SUBSETS = ("texture",)


def select_subset(dataset: Dataset, name: str) -> tuple[str, tuple[Record, ...]]:
    """What a signature calls the subset, ``NAME@`` and six digits of the hash of its samples' names; and its records.

    Samples without an HR picture are in no subset. `UsageError` for an unknown name.
    """
    if name not in SUBSETS:
        raise UsageError(f"there is no subset called {name!r}", did_you_mean(name, SUBSETS))
    energies = {
        record.name: gradient_energy(read_stored_image(dataset.root, record.hr))
        for record in dataset.records
        if record.hr is not None
    }
    chosen = choose_quarter(energies)
    records = tuple(record for record in dataset.records if record.name in chosen)
    digest = sha256_bytes("".join(f"{record.name}\n" for record in records).encode())
    return f"{name}@{digest[:6]}", records


def choose_quarter(energies: Mapping[str, int]) -> frozenset[str]:
    """Names of the quarter (rounded up) with the highest energy; equal energies go by name.

    >>> sorted(choose_quarter({"a": 1, "b": 3, "c": 3, "d": 2, "e": 0}))
    ['b', 'c']
    """
    ranked = sorted(energies, key=lambda name: (-energies[name], name))
    return frozenset(ranked[: math.ceil(len(ranked) / 4)])


def gradient_energy(image: Image) -> int:
    """How much texture a picture has: a thousand times the mean squared step to the right and downward neighbours.

    Measured on luma (299 R + 587 G + 114 B) / 1000, rounded down, grey levels.

    >>> gradient_energy(np.zeros((4, 4, 3), np.uint8))
    0
    """
    red, green, blue = (image[..., i].astype(np.int32) for i in range(3))
    luma = (299 * red + 587 * green + 114 * blue) // 1000
    steps = [np.diff(luma, axis=axis) for axis in (0, 1)]
    total = sum(int(np.sum(step * step, dtype=np.int64)) for step in steps)
    return 1000 * total // max(sum(step.size for step in steps), 1)
