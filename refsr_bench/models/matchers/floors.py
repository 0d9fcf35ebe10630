"""The three matchers that look at nothing: what no motion, chance, and perfection on a grid of cells are worth."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import UsageError
from refsr_bench.geometry import CELL_PX, patch_centres
from refsr_bench.schema import Matches, ModelCard

IDENTITY = ModelCard(
    name="identity", title="No motion: every node is matched to its own place", paper="none", uses_reference=False
)
RANDOM = ModelCard(
    name="random",
    title="Chance: every node is matched to any patch of the reference, all equally likely",
    paper="none",
    uses_reference=True,
)
ORACLE = ModelCard(
    name="oracle",
    title="The patch of the reference that is nearest to the true point: what a matcher of whole cells can reach",
    paper="none",
    uses_reference=True,
    sees="truth",
)
CARDS = {card.name: card for card in (IDENTITY, RANDOM, ORACLE)}

_TIE = 1e-9
"""Cells: below it two distances are equal, whatever the last bits say; equal ones go to the lower index, as in C2."""


class Identity:
    """Matches every node to its own place."""

    card = IDENTITY

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Return the nodes themselves."""
        nodes = patch_centres(*lr_up.shape[:2])
        return Matches(nodes, nodes.copy(), np.zeros(len(nodes)))


class Random:
    """Matches every node to a patch of the reference drawn with equal chances; equal pictures give equal draws."""

    card = RANDOM

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Draw one patch of the reference for every node."""
        digest = hashlib.sha256(f"{self.seed} {lr_up.shape} {ref.shape}".encode())
        digest.update(lr_up.tobytes())
        digest.update(ref.tobytes())
        generator = np.random.default_rng(int.from_bytes(digest.digest()[:8], "little"))
        nodes, patches = patch_centres(*lr_up.shape[:2]), patch_centres(*ref.shape[:2])
        return Matches(nodes, patches[generator.integers(0, len(patches), len(nodes))], np.zeros(len(nodes)))


class Oracle:
    """Matches every node to the reference's patch nearest to its true point; of equally near ones to the first."""

    card = ORACLE

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8], *, true_points: NDArray[np.float64]) -> Matches:
        """Round the true points to patch centres of the reference; where none is known, answer no motion."""
        nodes = patch_centres(*lr_up.shape[:2])
        wanted = np.where(np.isfinite(true_points), true_points, nodes)
        patches = patch_centres(*ref.shape[:2])
        first, last = patches.min(axis=0), patches.max(axis=0)
        cells = np.ceil((np.clip(wanted, first, last) - first) / CELL_PX - (0.5 + _TIE))
        return Matches(nodes, first + CELL_PX * cells, np.ones(len(nodes)))


def build_identity() -> Identity:
    """Make the matcher; it has no options."""
    return Identity()


def build_random(seed: str | int = 0) -> Random:
    """Make the matcher. seed : any whole number."""
    try:
        return Random(int(seed))
    except ValueError:
        raise UsageError(f"the seed of random is a whole number, not {seed!r}") from None


def build_oracle() -> Oracle:
    """Make the matcher; it has no options."""
    return Oracle()
