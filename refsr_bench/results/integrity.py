"""What ``leaderboard --check`` finds: rows that are not the ones a run was sealed with, and rows that do not belong.

The seal is a hash beside the rows. It shows accidents and careless edits; whoever edits both files can forge it.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pydantic

from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import RefsrError, first_few
from refsr_bench.results.rows import ROWS_NAME, RUN_NAME, find_run_folders, read_run_info
from refsr_bench.schema import Row, RunInfo
from refsr_bench.signature import parse_signature


class Finding(NamedTuple):
    """One thing that is wrong: a short kind for machines, and a sentence that names file and line."""

    folder: str
    kind: str
    text: str


class _Line(NamedTuple):
    number: int
    data: bytes
    row: Row | None


def check_runs(places: Sequence[Path], definitions: Mapping[str, str]) -> list[Finding]:
    """Everything wrong with the runs in or below the given folders; nothing if all is well.

    ``definitions`` are the present versions (signature key ``def``) of the metrics by name.
    """
    findings: list[Finding] = []
    seen: dict[str, Path] = {}
    for folder in find_run_folders(places):
        data = (folder / ROWS_NAME).read_bytes()
        twin = seen.setdefault(sha256_bytes(data), folder)
        if twin is not folder:
            findings.append(Finding(str(folder), "duplicate run", f"{folder}: holds the same rows as {twin}"))
        findings += (Finding(str(folder), kind, text) for kind, text in _check_run(folder, data, definitions))
    return findings


def _check_run(folder: Path, data: bytes, definitions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    path = folder / ROWS_NAME
    lines = [_Line(i, line, _parse(line)) for i, line in enumerate(data.split(b"\n"), 1) if line]
    last = len(lines) - 1
    for i, line in enumerate(lines):
        if i == last and not data.endswith(b"\n"):
            yield "truncated", f"{path}: line {line.number} is cut short: the file does not end with a line break"
        elif line.row is None:
            yield "not a row", f"{path}: line {line.number} is not a row"
    yield from _check_rows(path, [line for line in lines if line.row is not None], definitions)
    try:
        info = read_run_info(folder)
    except RefsrError as error:
        yield "unreadable run.json", str(error).replace("\n  ", "; ")
        return
    if info is None:
        yield "not sealed", f"{folder}: has no {RUN_NAME}, so nothing seals its rows"
    elif info.status != "finished" or info.rows_sha256 is None:
        yield "not finished", f"{folder}: the run is not finished; the same eval or score command finishes it"
    else:
        yield from _check_seal(path, data, lines, info)


def _parse(line: bytes) -> Row | None:
    try:
        return Row.model_validate_json(line)
    except pydantic.ValidationError:
        return None


def _check_rows(path: Path, lines: Sequence[_Line], definitions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What can be wrong with rows even where their hash is right."""
    first: dict[tuple[str, str, str], int] = {}
    rulers: dict[str, set[str]] = {}
    outdated: Counter[tuple[str, str, str]] = Counter()
    for number, _, row in lines:
        assert row is not None
        twin = first.setdefault((row.model, row.sample, row.signature), number)
        if twin != number:
            what = f"{row.metric} of {row.sample!r}"
            yield "duplicate row", f"{path}: line {number} repeats line {twin}: {what}"
        rulers.setdefault(row.metric, set()).add(row.signature)
        try:
            version = dict(parse_signature(row.signature).fields).get("def")
        except RefsrError:
            yield "not a signature", f"{path}: line {number} has a signature that cannot be read"
            continue
        present = definitions.get(row.metric)
        if version is not None and present is not None and version != present:
            outdated[row.metric, version, present] += 1
    for metric, signatures in rulers.items():
        if len(signatures) > 1:
            yield "mixed signatures", f"{path}: its {metric} rows carry {len(signatures)} signatures"
    for (metric, version, present), count in outdated.items():
        yield (
            "outdated definition",
            f"{path}: {count} rows of {metric} use version {version} of its definition, the present one is {present}; "
            "they stand in a column of their own: score the run again to compare them",
        )


def _check_seal(path: Path, data: bytes, lines: Sequence[_Line], info: RunInfo) -> Iterator[tuple[str, str]]:
    foreign = [x for x in lines if x.row and info.signatures.get(x.row.metric) != x.row.signature]
    for number, _, row in foreign:
        assert row is not None
        yield "foreign row", f"{path}: line {number} ({row.metric} of {row.sample!r}) has a signature the run does not"
    if sha256_bytes(data) == info.rows_sha256:
        return
    changes = list(_changed_lines(path, lines, info, {line.number for line in foreign}))
    yield from changes
    if not changes and not foreign:
        yield "edited", f"{path}: its SHA-256 is not the one {RUN_NAME} was sealed with"
    per_metric = Counter(line.row.metric for line in lines if line.row)
    for metric, count in per_metric.items():
        if count < info.samples:
            names = _missing_samples(path.parent, metric, lines)
            listed = f": {', '.join(first_few([repr(name) for name in names], 5))}" if names else ""
            text = f"{path}: {metric} has {count} rows for {info.samples} samples{listed}"
            yield "removed row", text


def _changed_lines(path: Path, lines: Sequence[_Line], info: RunInfo, known: set[int]) -> Iterator[tuple[str, str]]:
    if info.row_digests is None:
        return
    sealed = info.row_digests.split()
    present = [sha256_bytes(line.data)[:8] for line in lines]
    matcher = difflib.SequenceMatcher(None, sealed, present, autojunk=False)
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation == "equal":
            continue
        paired = min(b - a, d - c)
        for line in lines[c : c + paired]:
            what = f" ({line.row.metric} of {line.row.sample!r}, value {line.row.value})" if line.row else ""
            if line.number not in known:
                yield "edited", f"{path}: line {line.number}{what} was changed after the run was sealed"
        for line in lines[c + paired : d]:
            yield "added row", f"{path}: line {line.number} was added after the run was sealed"
        for i in range(a + paired, b):
            yield "removed row", f"{path}: row {i + 1} of the sealed file is missing"


def _missing_samples(folder: Path, metric: str, lines: Sequence[_Line]) -> list[str]:
    """Samples another metric or the journal knows and this metric has no row of."""
    known = dict.fromkeys(line.row.sample for line in lines if line.row)
    journal = folder / "journal.jsonl"
    for text in journal.read_text("utf-8", errors="replace").splitlines() if journal.is_file() else []:
        try:
            known.setdefault(str(json.loads(text)["sample"]))
        except (ValueError, KeyError, TypeError):
            continue
    scored = {line.row.sample for line in lines if line.row and line.row.metric == metric}
    return [sample for sample in known if sample not in scored]
