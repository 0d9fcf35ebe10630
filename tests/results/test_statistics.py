"""Statistics against simulation, scipy and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from refsr_bench.results.statistics import (
    bootstrap_difference,
    bradley_terry,
    holm_adjust,
    randomisation_p_value,
    wilson_interval,
)


def test_bootstrap_coverage() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for i in range(1000):
        interval = bootstrap_difference(rng.normal(0.1, 0.3, 80), draws=1000, seed=i)
        covered += interval.low <= 0.1 <= interval.high
    assert abs(covered / 1000 - 0.95) <= 0.02


def test_bootstrap_is_deterministic_and_centred() -> None:
    values = np.random.default_rng(0).normal(size=30)
    first, second = bootstrap_difference(values), bootstrap_difference(values)
    assert first == second
    assert first.low < first.mean < first.high
    assert first.mean == pytest.approx(values.mean())
    with pytest.raises(ValueError, match="no differences"):
        bootstrap_difference([])


def test_randomisation_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 12)
    exact = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert randomisation_p_value(values, draws=20_000) == pytest.approx(exact, abs=0.012)
    assert randomisation_p_value([0.0] * 9) == 1.0


def test_randomisation_is_uniform_under_no_difference() -> None:
    rng = np.random.default_rng(0)
    p_values = [randomisation_p_value(rng.normal(size=20), draws=499, seed=i) for i in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_never_smaller(p_values: list[float]) -> None:
    adjusted = holm_adjust(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert [adjusted[i] for i in order] == sorted(adjusted[i] for i in order)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (1, 9), (20, 40), (77, 80), (5, 5)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_refuses_what_is_no_proportion() -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson_interval(3, 2)


def test_bradley_terry_recovers_known_strengths() -> None:
    strengths = np.array([-0.8, -0.1, 0.2, 0.7])
    rng = np.random.default_rng(0)
    wins = np.zeros((4, 4))
    for i in range(4):
        for j in range(i):
            won = rng.binomial(4000, 1 / (1 + np.exp(strengths[j] - strengths[i])))
            wins[i, j], wins[j, i] = won, 4000 - won
    assert bradley_terry(wins) == pytest.approx(strengths - strengths.mean(), abs=0.05)


def test_bradley_terry_needs_every_method_to_win_and_lose() -> None:
    with pytest.raises(ValueError, match="no finite strengths"):
        bradley_terry([[0, 5], [0, 0]])
