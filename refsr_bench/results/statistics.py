"""Statistics for comparing methods image by image, and for preference votes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_KEPT = 2_000_000
"""Numbers of random draws that are kept for the next call at most, per kind and size."""


class Difference(NamedTuple):
    """Mean paired difference with its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def bootstrap_difference(
    differences: ArrayLike, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Difference:
    """Mean of paired differences ``(N,)`` with a percentile interval from a bootstrap over images.

    Deterministic in ``seed``. One difference gives an interval of no width; none raises `ValueError`.

    >>> bootstrap_difference([0.5, 0.5, 0.5])
    Difference(mean=0.5, low=0.5, high=0.5)
    """
    values = np.asarray(differences, np.float64)
    if not values.size:
        raise ValueError("there are no differences")
    means = np.concatenate([weights @ values for weights in _resamplings(values.size, draws, seed)]) / values.size
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(values.mean()), float(low), float(high))


def randomisation_p_value(differences: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of a zero mean difference by approximate randomisation (random signs per image).

    >>> randomisation_p_value([1.0, -1.0]) > 0.5
    True
    """
    values = np.asarray(differences, np.float64)
    observed = abs(values.sum())
    # A tolerance, so that sums that differ by rounding alone count as equal.
    limit = observed - 1e-9 * (np.abs(values).sum() + 1e-300)
    hits = sum(int((np.abs(signs @ values) >= limit).sum()) for signs in _random_signs(values.size, draws, seed))
    return (hits + 1) / (draws + 1)


_Draws = tuple[NDArray[np.float64], ...]


@functools.lru_cache(maxsize=8)
def _kept_resamplings(size: int, draws: int, seed: int) -> _Draws:
    return tuple(_make_resamplings(size, draws, seed))


def _resamplings(size: int, draws: int, seed: int) -> Iterable[NDArray[np.float64]]:
    """How often each value is drawn in each resampling, ``(n, size)`` a piece; small ones are kept, as tables ask
    for the same draws hundreds of times."""
    return (_kept_resamplings if size * draws <= _KEPT else _make_resamplings)(size, draws, seed)


def _make_resamplings(size: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    for n in _pieces(draws):
        drawn = rng.integers(0, size, (n, size)) + size * np.arange(n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size).astype(np.float64)


@functools.lru_cache(maxsize=8)
def _kept_signs(size: int, draws: int, seed: int) -> _Draws:
    return tuple(_make_signs(size, draws, seed))


def _random_signs(size: int, draws: int, seed: int) -> Iterable[NDArray[np.float64]]:
    return (_kept_signs if size * draws <= _KEPT else _make_signs)(size, draws, seed)


def _make_signs(size: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    for n in _pieces(draws):
        yield rng.choice([-1.0, 1.0], (n, size))


def _pieces(draws: int, piece: int = 1000) -> list[int]:
    """Draws in pieces, so that memory does not grow with their number."""
    return [piece] * (draws // piece) + ([draws % piece] if draws % piece else [])


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several comparisons, in the order given.

    >>> holm_adjust([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[int(i)] = largest
    return adjusted


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is not a proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == trials else centre + half)


def bradley_terry(wins: ArrayLike, *, tolerance: float = 1e-10, max_steps: int = 10_000) -> NDArray[np.float64]:
    """Log strengths ``(M,)``, mean zero, from a matrix ``wins[i, j]`` of how often i was preferred to j.

    P(i over j) = 1 / (1 + exp(strength_j - strength_i)). Fitted by Hunter's minorisation-maximisation. `ValueError` if
    some group of methods never won or never lost against the rest: its strengths would be infinite.
    """
    counts = np.asarray(wins, np.float64)
    _require_connected(counts)
    games = counts + counts.T
    strengths = np.ones(len(counts))
    for _ in range(max_steps):
        pairwise = games / (strengths[:, None] + strengths[None, :])
        np.fill_diagonal(pairwise, 0)
        updated = counts.sum(1) / pairwise.sum(1)
        updated /= np.exp(np.log(updated).mean())
        done = np.abs(np.log(updated / strengths)).max() < tolerance
        strengths = updated
        if done:
            break
    return np.log(strengths)


def _require_connected(counts: NDArray[np.float64]) -> None:
    reach = (counts > 0) | np.eye(len(counts), dtype=bool)
    for _ in range(len(counts)):
        reach = reach | ((reach.astype(np.int64) @ reach.astype(np.int64)) > 0)
    if not reach.all():
        raise ValueError("a method won or lost every comparison with a group of others: no finite strengths exist")
