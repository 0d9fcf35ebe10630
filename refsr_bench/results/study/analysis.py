"""What the answers of a study say: preference, strengths, agreement, each with how sure it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.results.statistics import bradley_terry, wilson_interval
from refsr_bench.results.study.answers import Answer, Answers
from refsr_bench.results.study.design import Key


class Preference(NamedTuple):
    """How often the first method was preferred to the second."""

    first: str
    second: str
    preferred: int
    of: int
    low: float
    high: float
    """Wilson interval of the share, 95 %."""
    raters: int


class Strength(NamedTuple):
    """A method's Bradley-Terry log strength (mean of all methods zero), with a 95 % bootstrap interval over raters."""

    method: str
    value: float
    low: float
    high: float


class Analysis(NamedTuple):
    """Everything a study says."""

    preferences: tuple[Preference, ...]
    strengths: tuple[Strength, ...]
    no_strengths: str | None
    """Why there are none."""
    raters: int
    left_out: tuple[str, ...]
    """Raters who failed too many attention checks."""
    answers: int
    rejected: dict[str, int]
    agreement: float | None
    """Share of pairs of raters who chose alike, over pairs of pictures that several saw."""
    alpha: float | None
    """Krippendorff's alpha: agreement beyond chance, 1 perfect, 0 none."""
    left_share: tuple[float, float, float] | None
    """Share of left choices with its Wilson interval: a half, unless sides mattered."""
    seconds_median: float | None


class _Vote(NamedTuple):
    rater: str
    pair: str
    winner: str
    loser: str


def analyse_study(key: Key, answers: Answers, *, allowed_failures: int = 0, draws: int = 1000) -> Analysis:
    """Analyse answers; raters who failed more attention checks than allowed are left out and named."""
    failures = Counter(answer.rater for answer in answers.valid if _failed_check(key, answer))
    raters = sorted({answer.rater for answer in answers.valid})
    left_out = tuple(rater for rater in raters if failures[rater] > allowed_failures)
    kept = [a for a in answers.valid if a.rater not in left_out and not key.pairs[a.pair].check]
    votes = [_vote(key, answer) for answer in kept]
    strengths, reason = _strengths(key.methods, votes, draws)
    agreement, alpha = rater_agreement(_by_pair(key.methods, votes))
    lefts = sum(answer.choice == "left" for answer in kept)
    return Analysis(
        preferences=tuple(_preferences(key, votes)),
        strengths=strengths,
        no_strengths=reason,
        raters=len({vote.rater for vote in votes}),
        left_out=left_out,
        answers=len(votes),
        rejected=dict(answers.rejected),
        agreement=agreement,
        alpha=alpha,
        left_share=(lefts / len(kept), *wilson_interval(lefts, len(kept))) if kept else None,
        seconds_median=float(np.median([answer.seconds for answer in kept])) if kept else None,
    )


def _chosen(key: Key, answer: Answer) -> int:
    """Position, in the key's pair, of the method that was chosen."""
    token = answer.left if answer.choice == "left" else answer.right
    return key.pairs[answer.pair].tokens.index(token)


def _failed_check(key: Key, answer: Answer) -> bool:
    truth = key.pairs[answer.pair]
    return truth.check and truth.methods[_chosen(key, answer)] != "hr"


def _vote(key: Key, answer: Answer) -> _Vote:
    methods, chosen = key.pairs[answer.pair].methods, _chosen(key, answer)
    return _Vote(answer.rater, answer.pair, methods[chosen], methods[1 - chosen])


def _preferences(key: Key, votes: Sequence[_Vote]) -> list[Preference]:
    found = []
    order = {method: i for i, method in enumerate(key.methods)}
    duels = dict.fromkeys(
        tuple(sorted(truth.methods, key=order.__getitem__)) for truth in key.pairs.values() if not truth.check
    )
    for first, second in duels:
        own = [vote for vote in votes if {vote.winner, vote.loser} == {first, second}]
        if own:
            wins = sum(vote.winner == first for vote in own)
            low, high = wilson_interval(wins, len(own))
            found.append(Preference(first, second, wins, len(own), low, high, len({vote.rater for vote in own})))
    return found


def _strengths(methods: Sequence[str], votes: Sequence[_Vote], draws: int) -> tuple[tuple[Strength, ...], str | None]:
    if not votes:
        return (), "there are no answers"
    by_rater: dict[str, NDArray[np.float64]] = {}
    index = {method: i for i, method in enumerate(methods)}
    for vote in votes:
        wins = by_rater.setdefault(vote.rater, np.zeros((len(methods), len(methods))))
        wins[index[vote.winner], index[vote.loser]] += 1
    counts = np.stack(list(by_rater.values()))
    try:
        values = bradley_terry(counts.sum(0))
    except ValueError as error:
        return (), str(error)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(draws):
        try:
            resampled.append(bradley_terry(counts[rng.integers(0, len(counts), len(counts))].sum(0)))
        except ValueError:
            continue  # in this draw a method won everything; its strength would be infinite
    if len(resampled) < draws / 2:
        low = high = np.full(len(methods), np.nan)
    else:
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    found = [Strength(m, float(v), float(a), float(b)) for m, v, a, b in zip(methods, values, low, high, strict=True)]
    return tuple(sorted(found, key=lambda strength: -strength.value)), None


def _by_pair(methods: Sequence[str], votes: Sequence[_Vote]) -> list[list[str]]:
    """For each pair of pictures whether its duel's first or second method was chosen, by everyone who saw it."""
    order = {method: i for i, method in enumerate(methods)}
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for vote in votes:
        grouped[vote.pair].append("first" if order[vote.winner] < order[vote.loser] else "second")
    return list(grouped.values())


def rater_agreement(units: Sequence[Sequence[str]]) -> tuple[float | None, float | None]:
    """Mean pairwise agreement, and Krippendorff's nominal alpha, of labels grouped by what was rated.

    Units with fewer than two labels say nothing; alpha's chance level is that of all other labels together. None where
    nothing can be said.

    >>> rater_agreement([["a", "a"], ["b", "b"], ["a", "b"]])[0]
    0.6666666666666666
    """
    shared = [Counter(unit) for unit in units if len(unit) > 1]
    if not shared:
        return None, None
    alike = sum(n * (n - 1) for counts in shared for n in counts.values())
    possible = sum(counts.total() * (counts.total() - 1) for counts in shared)
    observed = sum(
        (counts.total() ** 2 - sum(n * n for n in counts.values())) / (counts.total() - 1) for counts in shared
    )
    totals: Counter[str] = Counter()
    for counts in shared:
        totals.update(counts)
    everything = totals.total()
    expected = (everything**2 - sum(n * n for n in totals.values())) / (everything - 1)
    return alike / possible, 1 - observed / expected if expected else None


def describe_analysis(analysis: Analysis) -> list[str]:
    """The results as plain sentences."""
    sentences = [
        f"{p.first} was preferred to {p.second} in {100 * p.preferred / p.of:.0f} % of {p.of} comparisons by "
        f"{p.raters} raters (95 % interval {100 * p.low:.0f} to {100 * p.high:.0f} %)"
        + ("" if p.low > 0.5 or p.high < 0.5 else ": not distinguishable from chance")
        for p in analysis.preferences
    ]
    if analysis.strengths:
        listing = ", ".join(f"{s.method} {s.value:+.2f} [{s.low:+.2f}, {s.high:+.2f}]" for s in analysis.strengths)
        sentences.append(f"Bradley-Terry log strengths: {listing}")
    elif analysis.no_strengths:
        sentences.append(f"no Bradley-Terry strengths: {analysis.no_strengths}")
    if analysis.agreement is not None:
        alpha = "" if analysis.alpha is None else f" (Krippendorff's alpha {analysis.alpha:.2f})"
        sentences.append(f"two raters who saw the same pair agreed in {100 * analysis.agreement:.0f} % of cases{alpha}")
    if analysis.left_share is not None:
        share, low, high = (100 * value for value in analysis.left_share)
        verdict = "as it should be" if low <= 50 <= high else "sides mattered: see the balance per method"
        sentences.append(
            f"the left picture was chosen in {share:.0f} % (95 % interval {low:.0f} to {high:.0f} %): {verdict}"
        )
    counted = f"{analysis.answers} answers of {analysis.raters} raters count"
    if analysis.left_out:
        counted += f"; {len(analysis.left_out)} raters failed attention checks and were left out"
    if analysis.rejected:
        counted += "; rejected: " + ", ".join(f"{count} {reason}" for reason, count in analysis.rejected.items())
    return [*sentences, counted]


def as_dict(analysis: Analysis) -> dict[str, object]:
    """The analysis as plain JSON values; an interval that could not be drawn is null."""

    def finite(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        **analysis._asdict(),
        "preferences": [preference._asdict() for preference in analysis.preferences],
        "strengths": [
            {"method": s.method, "value": s.value, "low": finite(s.low), "high": finite(s.high)}
            for s in analysis.strengths
        ],
    }
