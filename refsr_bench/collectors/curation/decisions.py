"""What reviewers decided: an append-only journal, read as what stands, and how far two reviewers agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from refsr_bench.collectors.curation.rows import DECISIONS, Decision, append_row, read_rows


class Standing(NamedTuple):
    """What one reviewer's decisions about one query amount to."""

    verdict: Decision | None
    category: str | None


def read_decisions(path: Path, note: Callable[[str], None] = lambda text: None) -> list[Decision]:
    """All decisions in their order, each once; ``path`` is the journal or the curation folder."""
    rows = read_rows(path / DECISIONS if path.is_dir() else path, Decision, note)
    return list({row.id: row for row in reversed(rows)}.values())[::-1]


def record(path: Path, decision: Decision) -> bool:
    """Append a decision unless it is there already (a page that got no answer sends it again); whether it was new."""
    if any(row.id == decision.id for row in read_decisions(path)):
        return False
    append_row(path, decision)
    return True


def standing(decisions: Iterable[Decision]) -> dict[tuple[str, str], Standing]:
    """(reviewer, query) to what stands: the last verdict and the last category that were not undone."""
    decisions = list(decisions)
    undone = {(row.reviewer, row.undoes) for row in decisions if row.action == "undo"}
    found: dict[tuple[str, str], Standing] = {}
    for row in decisions:
        if row.action == "undo" or (row.reviewer, row.id) in undone:
            continue
        before = found.get((row.reviewer, row.query), Standing(None, None))
        if row.action == "tag":
            found[row.reviewer, row.query] = before._replace(category=row.category)
        else:
            found[row.reviewer, row.query] = before._replace(verdict=row)
    return found


def labels_path(dataset_root: Path) -> Path:
    """Where the category labels of a built dataset lie: beside it, so that it still verifies."""
    return dataset_root.with_name(f"{dataset_root.name}.labels.jsonl")


def read_labels(dataset_root: Path) -> dict[str, str]:
    """Sample to category, as people labelled a built dataset; where several did, the last word holds."""
    found = standing(read_decisions(labels_path(dataset_root)))
    return {sample: stands.category for (_, sample), stands in found.items() if stands.category is not None}


class Agreement(NamedTuple):
    """How far two reviewers agree; a kappa is None where one of them used a single label only or nothing is shared."""

    reviewers: tuple[str, str]
    queries: int
    """Queries that both decided."""
    same_choice: float | None
    """Share of them with the same outcome: the same reference, or none."""
    usable_kappa: float | None
    """Cohen's kappa of "has a usable reference" against "has none"."""
    candidate_kappa: float | None
    """Cohen's kappa over all candidates of those queries, each chosen or not."""
    categories: int
    category_kappa: float | None


def cohen_kappa(first: Sequence[object], second: Sequence[object]) -> float | None:
    """Cohen's (1960) chance-corrected agreement of two lists of labels; None where chance alone gives full agreement.

    >>> cohen_kappa("aabb", "aabb"), cohen_kappa("aabb", "abab")
    (1.0, 0.0)
    """
    if not first or len(first) != len(second):
        return None
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(list(first).count(label) * list(second).count(label) for label in {*first, *second}) / n**2
    return None if chance >= 1.0 else (observed - chance) / (1.0 - chance)


def agreement(decisions: Iterable[Decision], pool_sizes: dict[str, int]) -> list[Agreement]:
    """The agreement of every two reviewers; ``pool_sizes`` holds how many candidates each query has."""
    by_reviewer: dict[str, dict[str, Standing]] = defaultdict(dict)
    for (reviewer, query), stands in standing(decisions).items():
        by_reviewer[reviewer][query] = stands
    names = sorted(by_reviewer)
    return [_compare(a, b, by_reviewer, pool_sizes) for i, a in enumerate(names) for b in names[i + 1 :]]


def _compare(a: str, b: str, found: dict[str, dict[str, Standing]], pool_sizes: dict[str, int]) -> Agreement:
    verdicts = [
        (query, found[a][query].verdict, found[b][query].verdict) for query in sorted(found[a].keys() & found[b].keys())
    ]
    both = [(query, x.reference, y.reference) for query, x, y in verdicts if x is not None and y is not None]
    flags_a: list[bool] = []
    flags_b: list[bool] = []
    for query, x, y in both:
        chosen = {ref for ref in (x, y) if ref is not None}
        flags_a += [ref == x for ref in chosen]
        flags_b += [ref == y for ref in chosen]
        rest = max(0, pool_sizes.get(query, len(chosen)) - len(chosen))
        flags_a += [False] * rest
        flags_b += [False] * rest
    tags = [(found[a][q].category, found[b][q].category) for q in sorted(found[a].keys() & found[b].keys())]
    tags = [(x, y) for x, y in tags if x is not None and y is not None]
    return Agreement(
        reviewers=(a, b),
        queries=len(both),
        same_choice=sum(x == y for _, x, y in both) / len(both) if both else None,
        usable_kappa=cohen_kappa([x is not None for _, x, _ in both], [y is not None for _, _, y in both]),
        candidate_kappa=cohen_kappa(flags_a, flags_b),
        categories=len(tags),
        category_kappa=cohen_kappa([x for x, _ in tags], [y for _, y in tags]),
    )
