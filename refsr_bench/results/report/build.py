"""Writes the report: pages from templates, pictures, and the tables as JSON for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from refsr_bench import __version__
from refsr_bench.disk import publishing
from refsr_bench.errors import RefsrError, UsageError
from refsr_bench.results.formats import printable, to_json
from refsr_bench.results.leaderboard import lower_is_better, make_tables
from refsr_bench.results.noise import ProtocolNoise
from refsr_bench.results.report.content import COST_HEADS, Entry, Explain, Section, make_sections, slug, values_of
from refsr_bench.results.report.images import (
    ERROR_LIMIT,
    Prepare,
    Wanted,
    choose_samples,
    sr_path,
    write_panes,
)
from refsr_bench.results.report.marks import Mark
from refsr_bench.results.report.pages import (
    Picture,
    find_baseline,
    make_picture_lines,
    make_run_page,
)
from refsr_bench.results.rows import Run
from refsr_bench.store import Dataset

INDEX_NAME = "index.html"
MARKER_NAME = "report.json"
MARK = "refsr-bench report"
"""Key by which a folder is known as a report, which may be replaced."""
ASSETS = ("report.css", "report.js", "viewer.js")


class PictureSource(NamedTuple):
    """Where pictures come from, and how many of them to show."""

    find_dataset: Callable[[str], Dataset | None]
    """`DatasetInfo.id` → the dataset, None where it is not built here."""
    prepare: Prepare
    limit: int
    """Samples with pictures per table."""
    models: tuple[str, ...] = ()
    """Models whose pictures are shown; all if empty."""


class Written(NamedTuple):
    """What a report holds: its first page, how many pages of runs and of pictures, and remarks in words."""

    page: Path
    runs: int
    pictures: int
    remarks: tuple[str, ...]


def build_report(
    runs: Sequence[Run],
    out: Path,
    *,
    explain: Explain,
    definitions: Mapping[str, str],
    noise: ProtocolNoise | None = None,
    baseline: str | None = None,
    pictures: PictureSource | None = None,
    title: str = "Reference-based super-resolution",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Write the report of some runs into the folder ``out``, replacing a report that is there.

    ``advance(done, total)`` is called as pages with pictures are written. `UsageError` if ``out`` holds anything but
    a report, or no run is of the model called ``baseline``.
    """
    tables = make_tables(runs)
    sections = make_sections(tables, runs, explain=explain, definitions=definitions, noise=noise)
    if baseline and not any(find_baseline(section, baseline) for section in sections):
        raise UsageError(f"no run is of a model called {baseline!r}, the baseline")
    remarks: list[str] = []
    with publishing(out, _is_report, "report") as work:
        render = _Renderer(work, title)
        gallery = _gallery(sections, work, pictures, baseline, remarks, advance)
        for section in sections:
            own = gallery[section.anchor]
            pages = {picture.sample: picture.href for picture in own}
            base = find_baseline(section, baseline)
            for entry in section.entries:
                page = make_run_page(section, entry, base, pages, noise)
                render("run.html", entry.page, page=page, section=section)
            for i, picture in enumerate(own):
                around = {"previous": own[i - 1] if i else None, "next": own[i + 1] if i + 1 < len(own) else None}
                render(
                    "picture.html", picture.href, picture=picture, section=section, error_limit=ERROR_LIMIT, **around
                )
        render(
            "index.html", INDEX_NAME, sections=sections, gallery=gallery, noise=noise, overview=make_overview(sections)
        )
        for name in ASSETS:
            shutil.copyfile(Path(__file__).parent / "static" / name, work / name)
        (work / MARKER_NAME).write_text(
            json.dumps({MARK: __version__, "tables": to_json(tables)}, ensure_ascii=False), "utf-8"
        )
    count = sum(len(own) for own in gallery.values())
    return Written(out / INDEX_NAME, sum(len(s.entries) for s in sections), count, tuple(remarks))


def _is_report(folder: Path) -> bool:
    try:
        return MARK in json.loads((folder / MARKER_NAME).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


# --- pages -----------------------------------------------------------------------------------------------------------


class _Renderer:
    """Renders templates into one folder; every text that is put in is printable and escaped."""

    def __init__(self, folder: Path, title: str) -> None:
        self.folder = folder
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_clean,
        )
        self.environment.globals |= {
            "title": title,
            "version": __version__,
            "cost_heads": COST_HEADS,
            "lower_is_better": lower_is_better,
            "error_limit": ERROR_LIMIT,
        }

    def __call__(self, template: str, path: str, **values: Any) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * path.count("/")
        text = self.environment.get_template(template).render(root=root, **values)
        target.write_text(text, "utf-8", errors="replace")


def _clean(value: object) -> object:
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


class Overview(NamedTuple):
    """Methods by tables, as papers print them."""

    sections: tuple[Section, ...]
    lines: tuple[tuple[str, str, tuple[tuple[Entry, Mark, Mark | None] | None, ...]], ...]
    """(model, kind, one cell a section: the run, its first and its second number)."""


def make_overview(sections: Sequence[Section]) -> Overview | None:
    """All models over all tables; None where one table holds everything."""
    if len(sections) < 2:
        return None
    lines: dict[str, dict[str, Entry]] = {}
    for section in sections:
        for entry in section.entries:
            lines.setdefault(entry.rows[0].model, {}).setdefault(section.anchor, entry)
    body = []
    for model, own in lines.items():
        cells = tuple(_overview_cell(own[s.anchor]) if s.anchor in own else None for s in sections)
        body.append((model, next(iter(own.values())).kind, cells))
    return Overview(tuple(sections), tuple(body))


def _overview_cell(entry: Entry) -> tuple[Entry, Mark, Mark | None]:
    first, *rest = entry.lines[0].cells
    return entry, first, rest[0] if rest else None


# --- pictures ------------------------------------------------------------------------------------------------------


def _gallery(
    sections: Sequence[Section],
    work: Path,
    source: PictureSource | None,
    baseline: str | None,
    remarks: list[str],
    advance: Callable[[int, int], None],
) -> dict[str, list[Picture]]:
    """Pictures of every section by its anchor, worst first; writes their files."""
    gallery: dict[str, list[Picture]] = {section.anchor: [] for section in sections}
    if source is None or source.limit == 0:
        return gallery
    plans = []
    for section in sections:
        dataset = source.find_dataset(section.dataset)
        shown = [e for e in section.entries if e.info and (not source.models or e.rows[0].model in source.models)]
        if dataset is None or not shown:
            reason = "its dataset is not built here" if dataset is None else "no run of the chosen models"
            remarks.append(f"{section.dataset}: no pictures, {reason}")
            continue
        column = section.columns[0].signature
        values = {e.page: values_of(e.rows, column) for e in shown}
        plans += [
            (section, dataset, shown, name)
            for name in choose_samples(values, source.limit, falling=lower_is_better(column))
        ]
    for done, (section, dataset, shown, name) in enumerate(plans):
        advance(done, len(plans))
        try:
            picture = _picture(section, dataset, shown, name, work, source.prepare, find_baseline(section, baseline))
        except RefsrError as error:
            remarks.append(f"{section.dataset}, {name}: {error.problem}")
            continue
        remarks += (f"{name}: {text}" for text in picture.missing)
        gallery[section.anchor].append(picture)
    advance(len(plans), len(plans))
    for section in sections:  # a fall is a gain where lower is better
        sign = -1 if lower_is_better(section.columns[0].signature) else 1
        gallery[section.anchor].sort(key=lambda picture: sign * (picture.delta.value or 0.0))
    return gallery


def _picture(
    section: Section,
    dataset: Dataset,
    shown: Sequence[Entry],
    name: str,
    work: Path,
    prepare: Prepare,
    baseline: Entry | None,
) -> Picture:
    record = next((record for record in dataset.records if record.name == name), None)
    if record is None:
        raise UsageError("the dataset has no such sample")
    row = next(row for entry in shown for row in entry.rows if row.sample == name)
    folder = f"img/{section.anchor}/{slug(name)}"
    wanted = [
        Wanted(
            f"sr{i}",
            entry.label,
            entry.info,
            sr_path(entry.run.folder, entry.info, name),
            entry.run.folder / "flow" / f"{name}.npz",
        )
        for i, entry in enumerate(shown)
        if entry.info
    ]
    panes, missing = write_panes(work, folder, dataset, record, row.refs, wanted, prepare)
    lines = make_picture_lines(section, name, shown, baseline)
    best = next((line for line in lines if line.delta.value is not None), None)
    return Picture(
        section=section,
        sample=name,
        group=row.group,
        href=f"picture/{section.anchor}/{slug(name)}.html",
        thumb=f"{folder}/thumb.jpg",
        made=record.made,
        source=record.source,
        licence=record.licence,
        panes=tuple(panes),
        missing=tuple(missing),
        lines=tuple(lines),
        other=baseline.label if baseline else None,
        delta=best.delta if best else lines[0].cells[0],
    )
