"""What the pages of a report say, as plain values: everything is decided here, the templates only set it in HTML."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from refsr_bench.results.compare import describe_difference, is_certain
from refsr_bench.results.leaderboard import ALL, Line, Table, best_means, is_outdated
from refsr_bench.results.noise import ProtocolNoise
from refsr_bench.results.published import Published, published_for, read_published
from refsr_bench.results.report.marks import Mark, Span, difference_mark, mean_mark, quantity_mark, seconds_mark
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import bootstrap_difference, holm_adjust, randomisation_p_value
from refsr_bench.schema import Row, RunInfo
from refsr_bench.signature import parse_signature

Explain = Callable[[str], Sequence[tuple[str, str]]]
"""A signature's text → (part, plain words) pairs."""


class Column(NamedTuple):
    """One signature: its number in the whole report, and what it means."""

    number: int
    signature: str
    metric: str
    meaning: tuple[tuple[str, str], ...]
    outdated: bool


class GroupLine(NamedTuple):
    """One group of one run."""

    group: str
    images: str
    cells: tuple[Mark, ...]


class Against(NamedTuple):
    """How a run differs from another one of its table in the first column."""

    other: str
    mark: Mark
    sentence: str
    certain: bool
    below_noise: bool


class Printed(NamedTuple):
    """A published number beside a measured one."""

    text: str
    comparable: bool
    note: str


class Entry(NamedTuple):
    """One run in one table."""

    label: str
    kind: str
    page: str
    run: Run
    info: RunInfo | None
    lines: tuple[GroupLine, ...]
    costs: tuple[Mark, ...]
    """Parameters, multiply-adds, seconds per image, peak memory."""
    against_best: Against | None
    printed: tuple[Printed, ...]
    rows: tuple[Row, ...]
    ranked: bool


class Section(NamedTuple):
    """One table: one dataset under one protocol."""

    anchor: str
    dataset: str
    protocol: str
    refs_rule: str
    samples: int
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    printed: tuple[Published, ...]
    """Everything published on this dataset."""

    @property
    def printed_beside(self) -> bool:
        """Whether a published number stands beside some run."""
        return any(entry.printed for entry in self.entries)

    @property
    def known_costs(self) -> tuple[int, ...]:
        """Positions of the costs that some run knows."""
        return tuple(i for i in range(len(COST_HEADS)) if any(e.costs[i].value is not None for e in self.entries))


COST_HEADS = ("parameters", "multiply-adds", "s / image", "peak memory")


def slug(text: str, unique: str = "") -> str:
    """A file name or anchor made of a text's plain letters and a digest of all of it.

    >>> slug("C2-Matching <b>")
    'c2-matching-b-29d1ef'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    return f"{plain or 'x'}-{hashlib.sha256((text + unique).encode(errors='replace')).hexdigest()[:6]}"


def make_sections(
    tables: Sequence[Table],
    runs: Sequence[Run],
    *,
    explain: Explain,
    definitions: Mapping[str, str],
    noise: ProtocolNoise | None,
) -> list[Section]:
    """Every table of a leaderboard as a section; ``runs`` are the ones the tables were made from."""
    by_folder = {run.folder.as_posix(): run for run in runs}
    sections: list[Section] = []
    first = 1
    for table in tables:
        columns = tuple(
            Column(i, text, parse_signature(text).metric, tuple(explain(text)), is_outdated(text, definitions))
            for i, text in enumerate(table.columns, first)
        )
        first += len(columns)
        sections.append(_section(table, columns, by_folder, noise))
    return sections


def _section(
    table: Table, columns: tuple[Column, ...], runs: Mapping[str, Run], noise: ProtocolNoise | None
) -> Section:
    anchor = slug(table.dataset, "|".join(table.columns))
    members: dict[tuple[str, str], list[Line]] = {}
    for line in table.lines:
        members.setdefault((line.run, line.model), []).append(line)
    labels = _labels(list(members))
    best, spans = best_means(table), {column: _span(table, column) for column in table.columns}
    rows = {key: _rows_of(runs[key[0]], key[1], table.columns) for key in members}
    against = _against_best(table, members, rows, labels, noise)
    entries = []
    for key, lines in members.items():
        overall = lines[0]
        entries.append(
            Entry(
                label=labels[key],
                kind=overall.kind,
                page=f"run/{slug(labels[key], anchor + key[0])}.html",
                run=runs[key[0]],
                info=overall.info,
                lines=tuple(_group_line(line, table.columns, best, spans) for line in lines),
                costs=_costs(overall.info),
                against_best=against.get(key),
                printed=_printed(overall, table.dataset),
                rows=rows[key],
                ranked=overall.complete,
            )
        )
    info = next((line.info for line in table.lines if line.info), None)
    name = table.dataset.partition("@")[0]
    fields = dict(parse_signature(table.columns[0]).fields)
    return Section(
        anchor=anchor,
        dataset=table.dataset,
        protocol=str(info.protocol.get("name", "not named")) if info else "not named",
        refs_rule=fields.get("ref", "not stated"),
        samples=max((cell.of for line in table.lines for cell in line.cells.values()), default=0),
        columns=columns,
        entries=tuple(entries),
        printed=tuple(p for p in read_published() if p.dataset == name),
    )


def _labels(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The model's name, with its run folder where the name alone is ambiguous."""
    models = [model for _, model in keys]
    return {(run, model): model if models.count(model) == 1 else f"{model} ({run})" for run, model in keys}


def _rows_of(run: Run, model: str, columns: Sequence[str]) -> tuple[Row, ...]:
    return tuple(row for row in run.rows if row.model == model and row.signature in columns)


def _span(table: Table, column: str) -> Span:
    ends = [
        value
        for line in table.lines
        for cell in (line.cells[column],)
        for value in (cell.low, cell.mean, cell.high)
        if value is not None
    ]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _group_line(line: Line, columns: Sequence[str], best: Mapping[str, str], spans: Mapping[str, Span]) -> GroupLine:
    of = max((cell.of for cell in line.cells.values()), default=0)  # fewer where not every sample has such a number
    scored = min((cell.scored for cell in line.cells.values() if cell.of == of), default=0)
    ranked = line.group == ALL and line.complete
    cells = tuple(mean_mark(c, line.cells[c], best.get(c) if ranked else None, spans[c]) for c in columns)
    return GroupLine(line.group, str(of) if scored == of else f"{scored} of {of}", cells)


def _costs(info: RunInfo | None) -> tuple[Mark, ...]:
    if info is None:
        return (Mark("–"),) * len(COST_HEADS)
    memory = info.peak_memory_bytes
    return (
        quantity_mark(info.model.parameters),
        quantity_mark(info.multiply_adds),
        seconds_mark(info.restore_seconds_median),
        Mark("–") if memory is None else Mark(f"{memory / 2**30:.2f} GiB", memory),
    )


def _printed(line: Line, dataset: str) -> tuple[Printed, ...]:
    if line.info is None:
        return ()
    numbers = published_for(line.info.model, dataset.partition("@")[0])
    beside = [p for p in numbers if "rgb" not in p.protocol.lower()]  # the tables begin with luma
    printed = [describe_printed(p, str(line.info.protocol.get("name", "")), line.info.refs_rule) for p in beside]
    return tuple(sorted(printed, key=lambda p: not p.comparable))


def describe_printed(published: Published, protocol: str, refs_rule: str) -> Printed:
    """A published number with the reason why it may or may not be read beside one measured under ``protocol``."""
    text = published.psnr + (f" / {published.ssim.removeprefix('0')}" if published.ssim else "")
    where = " ".join(filter(None, (published.source, published.table)))
    name, _, reference = published.protocol.partition(", reference: ")
    same_refs = reference in ("", refs_rule) or (reference in ("level1", "given pair") and refs_rule == "first")
    if name == protocol and same_refs:
        return Printed(text, True, f"{where}: printed under {published.protocol}, the protocol of this table")
    if name == protocol:
        reason = f"same protocol but another reference ({reference}), so not comparable"
    elif name in ("", "unstated") or "not stated" in name:
        reason = "its protocol is not stated, so a difference may come from the protocol alone"
    else:
        reason = f"printed under another protocol ({published.protocol}), so not comparable"
    return Printed(text, False, f"{where}: {reason}")


# --- differences ---------------------------------------------------------------------------------------------------


def values_of(rows: Sequence[Row], signature: str) -> dict[str, float]:
    """Scored values by sample of one column."""
    return {row.sample: row.value for row in rows if row.signature == signature and row.value is not None}


def _against_best(
    table: Table,
    members: Mapping[tuple[str, str], Sequence[Line]],
    rows: Mapping[tuple[str, str], tuple[Row, ...]],
    labels: Mapping[tuple[str, str], str],
    noise: ProtocolNoise | None,
) -> dict[tuple[str, str], Against]:
    """Every run against the first one of its table, in the first column; p-values Holm-corrected over the table."""
    column = table.columns[0]
    leader, *others = list(members)
    base = values_of(rows[leader], column)
    found: dict[tuple[str, str], list[float]] = {}
    for key in others:
        own = values_of(rows[key], column)
        differences = [own[sample] - base[sample] for sample in base if sample in own]
        if differences:
            found[key] = differences
    p_values = holm_adjust([randomisation_p_value(values) for values in found.values()])
    metric = parse_signature(column).metric
    return {
        key: _against(metric, labels[key], labels[leader], values, p_value, noise)
        for (key, values), p_value in zip(found.items(), p_values, strict=True)
    }


def _against(
    metric: str, name: str, other: str, values: Sequence[float], p_value: float, noise: ProtocolNoise | None
) -> Against:
    difference = bootstrap_difference(values, draws=4000)
    sentence = describe_difference(metric, other, name, values, difference, p_value, noise)
    return Against(
        other=other,
        mark=difference_mark(metric, difference),
        sentence=sentence,
        certain=is_certain(difference),
        below_noise=noise is not None and noise.exceeds(metric, difference.mean),
    )
