"""Fig. 5: what each component adds, image by image, on all images and on a subset of textured ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.figures.style import COLOURS, FAINT, INK, LEGEND, SOFT, TITLE, new_figure, plain, subplots
from refsr_bench.results.leaderboard import format_value
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import Difference, bootstrap_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER_STEPS = {"all images": (0.08, 0.2, 0.09), "subset": (None, None, 0.16)}
"""Increments the paper's text states for + Dyn-Agg, + Contras and + TS Corr, dB; of the subset it states the last."""


class Step(NamedTuple):
    """One variant: its mean, and its paired difference to the variant before it (None for the first)."""

    label: str
    mean: float
    added: Difference | None
    images: int


def ablation_steps(runs: Sequence[Run], labels: Sequence[str], metric: str, only: frozenset[str] | None) -> list[Step]:
    """Variants in the order given, on the samples that all of them scored (and that are in ``only``).

    `SignatureMismatch` if they were not measured alike, `UsageError` if they share no sample.
    """
    values: list[dict[str, float]] = []
    signatures = set()
    for run in runs:
        own = [row for row in run.rows if row.metric == metric]
        signatures |= {row.signature for row in own}
        values.append({row.sample: row.value for row in own if row.value is not None})
    if len(signatures) > 1:
        raise SignatureMismatch(f"the runs were measured differently in {metric}", "only equal signatures compare")
    shared = [sample for sample in values[0] if all(sample in other for other in values)]
    shared = [sample for sample in shared if only is None or sample in only]
    if not shared:
        raise UsageError(f"the runs share no sample that all of them scored with {metric}")
    steps = []
    for i, (label, scores) in enumerate(zip(labels, values, strict=True)):
        mean = sum(scores[sample] for sample in shared) / len(shared)
        added = bootstrap_difference([scores[s] - values[i - 1][s] for s in shared]) if i else None
        steps.append(Step(label, mean, added, len(shared)))
    return steps


def draw_ablation(
    series: Sequence[tuple[str, Sequence[Step]]], *, metric: str, paper: bool = False, width: str = "column"
) -> Figure:
    """Bars of what each step adds, with 95 % intervals, one panel a set of images; ``paper`` adds what it states."""
    figure = new_figure(width, 1.9 * len(series) if width == "column" else 2.2)
    shape = (len(series), 1) if width == "column" else (1, len(series))
    panels = subplots(figure, *shape, sharey=True)
    for axes, (title, steps) in zip(panels, series, strict=True):
        _draw_steps(axes, title, steps, metric, paper)
    return figure


def _draw_steps(axes: Axes, title: str, steps: Sequence[Step], metric: str, paper: bool) -> None:
    unit = " (dB)" if metric.startswith("psnr") else ""
    added = [(i, step.added) for i, step in enumerate(steps) if step.added is not None]
    axes.bar([i for i, _ in added], [d.mean for _, d in added], width=0.55, color=COLOURS[0], zorder=2)
    for i, difference in added:
        axes.plot([i, i], [difference.low, difference.high], color=INK, linewidth=0.9, zorder=3)
        rises = difference.mean >= 0
        axes.annotate(
            f"{difference.mean:+.{_digits(metric)}f}",
            (i, max(difference.high, 0) if rises else min(difference.low, 0)),
            xytext=(0, 2 if rises else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if rises else "top",
            fontsize=6.5,
        )
    stated = PAPER_STEPS.get(title) if paper and len(added) == 3 else None
    if stated:
        marks = [(i, value) for (i, _), value in zip(added, stated, strict=True) if value is not None]
        axes.scatter(
            [i + 0.36 for i, _ in marks],
            [value for _, value in marks],
            marker="D",
            s=14,
            facecolor="white",
            edgecolor=COLOURS[1],
            zorder=4,
            label="stated in the paper",
        )
        axes.legend(loc="best", **LEGEND)
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_title(f"{plain(title)} ({steps[0].images})", loc="left", **TITLE)
    axes.set_ylabel(f"added {plain(metric)}{unit}")
    axes.set_xticks(range(len(steps)), [f"{plain(s.label)}\n{format_value(metric, s.mean)}" for s in steps])
    axes.margins(y=0.2)


def _digits(metric: str) -> int:
    return 2 if metric.startswith(("psnr", "aee")) else 4
