"""What a protocol's choices are worth: one model's scores under many protocols, each against the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from refsr_bench.results.formats import aligned_rows
from refsr_bench.schema import Row

HEADLINES = (("psnr_y", "psnr_rgb", "aee"), ("ssim_y", "ssim_rgb", "pck@8"))
"""The two numbers of a protocol that papers print: of each tuple the first metric that it reports."""


class Measured(NamedTuple):
    """One protocol's rows, and in what it differs from the first."""

    protocol: str
    changed: str
    rows: tuple[Row, ...]


class Effect(NamedTuple):
    """One headline number under one protocol, and its difference to the first protocol's on the same samples."""

    protocol: str
    changed: str
    metric: str
    mean: float | None
    difference: float | None
    samples: int
    signature: str


def protocol_effects(measured: Sequence[Measured]) -> list[Effect]:
    """Headline means of every protocol; differences are means over the samples that both have scored."""
    effects = []
    for choices in HEADLINES:
        base = _headline(measured[0].rows, choices)
        if base is None:
            continue
        for each in measured:
            own = _headline(each.rows, choices)
            if own is None:
                continue
            values = {row.sample: row.value for row in own if row.value is not None}
            reference = {row.sample: row.value for row in base if row.value is not None}
            both = [values[sample] - reference[sample] for sample in values if sample in reference]
            effects.append(
                Effect(
                    each.protocol,
                    each.changed,
                    own[0].metric,
                    math.fsum(values.values()) / len(values) if values else None,
                    math.fsum(both) / len(both) if both else None,
                    len(values),
                    own[0].signature,
                )
            )
    return effects


def _headline(rows: Sequence[Row], choices: Sequence[str]) -> list[Row] | None:
    for metric in choices:
        found = [row for row in rows if row.metric == metric]
        if found:
            return found
    return None


def to_markdown(dataset: str, model: str, effects: Sequence[Effect]) -> str:
    """One line a protocol, differences to the first beside its numbers."""
    names = list(dict.fromkeys(effect.protocol for effect in effects))
    header = ["protocol", "differs in", "images", "measured as", "value", "difference"]
    body = []
    for name in names:
        for effect in (effect for effect in effects if effect.protocol == name):
            digits = 4 if effect.metric.startswith(("ssim", "pck")) else 2
            value = "-" if effect.mean is None else f"{effect.mean:.{digits}f}"
            change = "-" if effect.difference is None else f"{effect.difference:+.4f}"
            first = effect.metric in HEADLINES[0]
            differs = effect.changed or "(the base)"
            label = [name, differs, str(effect.samples)] if first else ["", "", ""]
            body.append([*label, effect.metric, value, change])
    lines = [f"### {dataset}: {model} under {len(names)} protocols", ""]
    lines += aligned_rows(header, body, left=(0, 1, 3))
    lines += ["", "Numbers of different protocols measure different things and cannot be ranked together.", ""]
    return "\n".join(lines)
