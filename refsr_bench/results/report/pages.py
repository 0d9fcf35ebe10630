"""The pages of single runs and single samples, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from refsr_bench.results.compare import describe_difference
from refsr_bench.results.leaderboard import format_value, lower_is_better
from refsr_bench.results.noise import ProtocolNoise
from refsr_bench.results.report.content import Column, Entry, Section, values_of
from refsr_bench.results.report.images import Pane
from refsr_bench.results.report.marks import Mark, signed
from refsr_bench.results.statistics import bootstrap_difference, randomisation_p_value


class SampleLine(NamedTuple):
    """One sample of one run."""

    sample: str
    group: str
    cells: tuple[Mark, ...]
    delta: Mark
    picture: str | None
    """Page of the sample, from the report's root."""
    reason: str | None


class RunPage(NamedTuple):
    """Everything about one run in one table."""

    section: Section
    entry: Entry
    facts: tuple[tuple[str, str], ...]
    other: str | None
    """The run that the deltas are against."""
    sentence: str | None
    lines: tuple[SampleLine, ...]
    bars: tuple[tuple[float, float, bool], ...]
    """One bar a sample, worst first: top and height in percent of the chart, and whether it is a gain."""
    zero: float
    """Where zero lies in the chart, in percent from its top."""


class PictureLine(NamedTuple):
    """One run's scores of one sample."""

    label: str
    page: str
    cells: tuple[Mark, ...]
    delta: Mark


class Picture(NamedTuple):
    """One sample with its pictures."""

    section: Section
    sample: str
    group: str
    href: str
    thumb: str
    made: str
    source: str
    licence: str
    panes: tuple[Pane, ...]
    missing: tuple[str, ...]
    lines: tuple[PictureLine, ...]
    other: str | None
    delta: Mark
    """What it is sorted by: the best run against the baseline."""


def find_baseline(section: Section, name: str | None) -> Entry | None:
    """The run that others are measured against: the one of that model, else bicubic, else none."""
    wanted = name or "bicubic"
    return next((entry for entry in section.entries if entry.rows and entry.rows[0].model == wanted), None)


def make_run_page(
    section: Section, entry: Entry, baseline: Entry | None, pictures: Mapping[str, str], noise: ProtocolNoise | None
) -> RunPage:
    """The page of one run; the baseline itself is compared with the best run. ``pictures`` maps samples to pages."""
    candidates = (baseline, section.entries[0])
    other = next((each for each in candidates if each is not None and each is not entry), None)
    column = section.columns[0].signature
    own = values_of(entry.rows, column)
    base = values_of(other.rows, column) if other else {}
    deltas = {sample: own[sample] - base[sample] for sample in own if sample in base}
    falling = lower_is_better(column)

    def badness(line: SampleLine) -> tuple[bool, float]:
        value = line.delta.value if other else line.cells[0].value
        return (value is None, (-value if falling else value) if value is not None else 0.0)

    lines = sorted(_sample_lines(section, entry, deltas, pictures), key=badness)
    ordered = [line.delta.value for line in lines if line.delta.value is not None]
    bars, zero = _waterfall(ordered, falling)
    return RunPage(
        section=section,
        entry=entry,
        facts=tuple(_facts(entry)),
        other=other.label if other else None,
        sentence=_sentence(section.columns[0], entry, other, list(deltas.values()), noise),
        lines=tuple(lines),
        bars=bars,
        zero=zero,
    )


def _sample_lines(
    section: Section, entry: Entry, deltas: Mapping[str, float], pictures: Mapping[str, str]
) -> list[SampleLine]:
    values = {column.signature: values_of(entry.rows, column.signature) for column in section.columns}
    first = {row.sample: row for row in reversed(entry.rows)}
    reasons = {row.sample: row.reason for row in entry.rows if row.status != "ok"}
    lines = []
    for sample in dict.fromkeys(row.sample for row in entry.rows):
        cells = [_value_mark(column, values[column.signature].get(sample)) for column in section.columns]
        delta = deltas.get(sample)
        metric = section.columns[0].metric
        lines.append(
            SampleLine(
                sample,
                first[sample].group,
                tuple(cells),
                Mark("–") if delta is None else Mark(signed(metric, delta), delta),
                pictures.get(sample),
                reasons.get(sample),
            )
        )
    return lines


def _value_mark(column: Column, value: float | None) -> Mark:
    return Mark("–") if value is None else Mark(format_value(column.signature, value), value)


def _sentence(
    column: Column, entry: Entry, other: Entry | None, deltas: Sequence[float], noise: ProtocolNoise | None
) -> str | None:
    if other is None or not deltas:
        return None
    difference, p_value = bootstrap_difference(deltas, draws=4000), randomisation_p_value(deltas)
    return describe_difference(column.metric, other.label, entry.label, deltas, difference, p_value, noise)


def _waterfall(values: Sequence[float], falling: bool) -> tuple[tuple[tuple[float, float, bool], ...], float]:
    if not values:
        return (), 0.0
    top, bottom = max(0.0, *values), min(0.0, *values)
    scale = 100 / (top - bottom) if top > bottom else 0.0
    bars = tuple(
        (round((top - max(v, 0.0)) * scale, 2), round(max(abs(v) * scale, 0.6), 2), (v < 0) == falling and v != 0)
        for v in values
    )
    return bars, round(top * scale, 2)


def _facts(entry: Entry) -> list[tuple[str, str]]:
    info = entry.info
    facts = [("run folder", entry.run.folder.as_posix())]
    if info is None:
        return facts
    card = info.model
    weights = ", ".join(f"{role} {digest[:12]}…" for role, digest in card.weights_sha256.items())
    facts.append(("model", card.title))
    if info.device is None:
        facts.append(("restored by", "another program: only scored here"))
    else:
        facts += [
            ("paper", card.paper),
            ("kind", card.kind),
            ("trained on", card.trained_on),
            ("weights", f"{weights or 'none'} (licence: {card.weights_licence})"),
            ("options", ", ".join(f"{key} = {value}" for key, value in info.options.items()) or "none"),
            ("device", info.device),
        ]
    facts += [
        ("versions", ", ".join(f"{key} {value}" for key, value in info.versions.items())),
        ("failed", f"{info.failed} of {info.samples} samples"),
        ("rows SHA-256", info.rows_sha256 or "not sealed"),
    ]
    return facts


def make_picture_lines(section: Section, sample: str, shown: Sequence[Entry], other: Entry | None) -> list[PictureLine]:
    """Scores of one sample by every run shown, best first; deltas against ``other``."""
    column = section.columns[0]
    base = values_of(other.rows, column.signature).get(sample) if other else None
    lines = []
    for entry in shown:
        values = [values_of(entry.rows, c.signature).get(sample) for c in section.columns]
        delta = values[0] - base if values[0] is not None and base is not None and entry is not other else None
        lines.append(
            PictureLine(
                entry.label,
                entry.page,
                tuple(_value_mark(c, value) for c, value in zip(section.columns, values, strict=True)),
                Mark("–") if delta is None else Mark(signed(column.metric, delta), delta),
            )
        )
    sign = 1 if lower_is_better(column.signature) else -1
    return sorted(lines, key=lambda line: (line.cells[0].value is None, sign * (line.cells[0].value or 0)))
