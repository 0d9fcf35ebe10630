"""Protocol noise: how far a score moves when only unstated choices of the protocol change, as measured here.

``protocol_effects.csv`` holds the measurements that ``benchmarks/protocol_effects.py`` makes: one model on one dataset
under each protocol, the difference to the default one. A difference between two methods that is smaller than this may
come from the protocol alone when the two numbers stand in different papers.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence
from typing import NamedTuple

from refsr_bench.results.leaderboard import format_value


class MeasuredEffect(NamedTuple):
    """What one protocol does to a metric's mean: ``difference`` is its mean minus the default protocol's."""

    protocol: str
    changed: str
    metric: str
    difference: float
    samples: int
    model: str
    dataset: str


class ProtocolNoise(NamedTuple):
    """Everything that was measured, mistakes included."""

    effects: tuple[MeasuredEffect, ...]

    def largest(self, metric: str) -> MeasuredEffect | None:
        """What moves the metric most without being a mistake; None if nothing was measured for it.

        Protocols of published methods, and changes of one choice other than luma and LR filter: those two move scores
        by a dB and more, which nobody would call noise. A protocol of RGB is left out, as its difference is to luma.
        """
        mistakes = ("+ch=", "+lr=")
        own = [
            effect
            for effect in self.effects
            if effect.metric == metric
            and "ch:rgb" not in effect.changed
            and not any(mistake in effect.protocol for mistake in mistakes)
        ]
        return max(own, key=lambda effect: abs(effect.difference), default=None)

    def exceeds(self, metric: str, difference: float) -> bool:
        """Whether the protocol alone moves the metric by at least this difference."""
        largest = self.largest(metric)
        return largest is not None and abs(difference) <= abs(largest.difference)

    def describe(self, metric: str, difference: float) -> str:
        """A clause for a sentence about a difference; empty if the difference is larger than the noise."""
        largest = self.largest(metric)
        if largest is None or not self.exceeds(metric, difference):
            return ""
        size = format_value(metric, abs(largest.difference)) + (" dB" if metric.startswith("psnr") else "")
        return (
            f"smaller than protocol noise: {largest.changed} alone moves {metric} by {size} "
            f"({largest.model} on {largest.dataset})"
        )


def read_protocol_noise() -> ProtocolNoise | None:
    """The effects this package was measured with; None where no measurement is packed with it."""
    file = importlib.resources.files("refsr_bench.results") / "protocol_effects.csv"
    return parse_effects(csv.DictReader(file.read_text("utf-8").splitlines())) if file.is_file() else None


def parse_effects(rows: Sequence[dict[str, str]] | csv.DictReader[str]) -> ProtocolNoise:
    """Effects from CSV rows; `ValueError` or `KeyError` for a row that is not one."""
    return ProtocolNoise(
        tuple(
            MeasuredEffect(
                row["protocol"],
                row["changed"],
                row["metric"],
                float(row["difference"]),
                int(row["samples"]),
                row["model"],
                row["dataset"],
            )
            for row in rows
        )
    )
