"""Evaluation in two passes: restore every sample to a PNG, then score only what is on disk.

A run folder::

    run.json        `RunInfo`: model, dataset, protocol, versions, timings; written first and again at the end
    journal.jsonl   one line an attempt while restoring: seconds, or the reason of a failure
    sr/<name>.png   the restored pictures
    rows.jsonl      one `Row` per sample and metric; identical bytes however often the run was interrupted
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import ImageError, IntegrityError, RefsrError
from refsr_bench.images import decode_image, encode_png, read_bytes
from refsr_bench.protocols.inputs import Inputs, finish_output, prepare_hr, prepare_inputs
from refsr_bench.protocols.spec import EvalProtocol, Metric, applies, select_references, signature_of
from refsr_bench.schema import Image, ModelCard, Record, Row
from refsr_bench.store import Dataset, atomic_write_bytes, load_sample, read_stored_image, to_json_line

Status = Literal["ok", "capped", "failed"]

ROWS_NAME = "rows.jsonl"
RUN_NAME = "run.json"
JOURNAL_NAME = "journal.jsonl"


class Restorer(Protocol):
    """The part of a model that evaluation needs (see `refsr_bench.models.base.SRModel`)."""

    card: ModelCard

    def restore(self, lr: Image, refs: Sequence[Image]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` with the help of ``refs``."""
        ...


class Attempt(NamedTuple):
    """One journal line: how restoring a sample went."""

    sample: str
    seconds: float | None
    reason: str | None


def references_of(record: Record, rule: str) -> tuple[int, ...]:
    """Positions of the references that a rule picks from a record."""
    return select_references(rule, [ref.level for ref in record.refs])


def restore_all(
    model: Restorer,
    dataset: Dataset,
    records: Sequence[Record],
    protocol: EvalProtocol,
    refs_rule: str,
    run_dir: Path,
    on_item: Callable[[Attempt | None], None],
) -> None:
    """First pass: write ``sr/<name>.png`` for every record that has none yet.

    A picture that exists is complete (it was published with one rename) and is kept. A sample that fails is a journal
    line with its reason and the run goes on; a later call tries it again. ``on_item`` is called once a record, with
    None where the picture was already there.
    """
    for leftover in (run_dir / "sr").glob(".*.part"):
        leftover.unlink()
    for record in records:
        target = run_dir / "sr" / f"{record.name}.png"
        if target.is_file():
            on_item(None)
            continue
        started = time.perf_counter()
        try:
            data = encode_png(_restore_one(model, dataset, record, protocol, refs_rule))
        except Exception as error:  # any fault of one sample is that sample's row; Ctrl-C and SIGTERM pass through
            attempt = Attempt(record.name, None, reason_of(error))
        else:
            atomic_write_bytes(target, data)
            attempt = Attempt(record.name, round(time.perf_counter() - started, 4), None)
        append_line(run_dir / JOURNAL_NAME, attempt._asdict())
        on_item(attempt)


def load_inputs(dataset: Dataset, record: Record, protocol: EvalProtocol, refs_rule: str) -> Inputs:
    """Read a sample and make of it what a protocol lets a model see."""
    if record.hr is None:
        raise ImageError("the sample has no HR picture to make an LR picture from")
    sample = load_sample(dataset, record, references_of(record, refs_rule))
    assert sample.hr is not None
    return prepare_inputs(sample.hr, sample.refs, protocol)


def _restore_one(model: Restorer, dataset: Dataset, record: Record, protocol: EvalProtocol, refs_rule: str) -> Image:
    inputs = load_inputs(dataset, record, protocol, refs_rule)
    if model.card.uses_reference and not inputs.refs:
        raise RefsrError("the model needs a reference and this sample has none")
    return finish_output(model.restore(inputs.lr, inputs.refs), inputs, protocol)


def reason_of(error: Exception) -> str:
    """One line that says why an item failed."""
    if isinstance(error, RefsrError):
        return str(error).replace("\n  ", "; ")
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Add one JSON line to a journal, whole and at once; an unfinished last line stays alone."""
    line = json.dumps(value, ensure_ascii=False) + "\n"
    if path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        line = "\n" + line  # the last writer was killed in the middle of its line
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_journal(run_dir: Path, name: str = JOURNAL_NAME) -> dict[str, Attempt]:
    """The last attempt of every sample; a line that a killed run left broken is passed over."""
    path = run_dir / name
    attempts = {}
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            attempt = Attempt(**json.loads(line))
        except (ValueError, TypeError):
            continue
        attempts[attempt.sample] = attempt
    return attempts


def score_all(
    model_name: str,
    dataset: Dataset,
    records: Sequence[Record],
    protocol: EvalProtocol,
    refs_rule: str,
    metrics: Sequence[Metric],
    sr_path: Callable[[str], Path],
    reasons: dict[str, str],
) -> Iterator[Row]:
    """Second pass: rows of every record and metric, from the pictures at ``sr_path(name)`` alone.

    ``reasons`` explains missing pictures (from the journal). Infinity becomes the metric's cap with status "capped";
    NaN and every fault become a row with status "failed" and a reason, never a number.
    """
    for record in records:
        try:
            if record.hr is None:
                raise ImageError("the sample has no HR picture to score against")
            hr = prepare_hr(read_stored_image(dataset.root, record.hr), protocol)
            sr, note = read_sr(sr_path(record.name), reasons.get(record.name))
            fault = None
        except RefsrError as error:
            fault = reason_of(error)
        try:
            refs = tuple(record.refs[i].path for i in references_of(record, refs_rule))
        except RefsrError:
            refs = ()
        for metric in (metric for metric in metrics if applies(metric, protocol)):
            value, status, reason = None, "failed", fault
            if fault is None:
                value, status, reason = _score_one(metric, hr, sr, protocol)
            yield Row(
                model=model_name,
                dataset=dataset.info.id,
                sample=record.name,
                group=record.group,
                refs=refs,
                metric=metric.name,
                value=value,
                signature=str(
                    signature_of(
                        metric, protocol, dataset_id=dataset.info.id, samples=len(records), refs_rule=refs_rule
                    )
                ),
                status=status,
                reason=reason or (note if fault is None else None),
            )


def read_sr(path: Path, known_reason: str | None) -> tuple[Image, str | None]:
    """Read a restored picture, and what had to be converted; `IntegrityError` says why there is none."""
    if not path.is_file():
        raise IntegrityError(known_reason or f"there is no restored picture {path.name}")
    decoded = decode_image(read_bytes(path), path.name)
    return decoded.pixels, "; ".join(decoded.conversions) or None


def _score_one(metric: Metric, hr: Image, sr: Image, protocol: EvalProtocol) -> tuple[float | None, Status, str | None]:
    plane = {"luma": protocol.luma} if metric.keys.get("ch") == "luma" else {}
    try:
        value = metric.compute(hr, sr, protocol.crop_px, **plane)
    except RefsrError as error:
        return None, "failed", reason_of(error)
    return judge(metric.name, value, metric.cap)


def judge(name: str, value: float, cap: float | None) -> tuple[float | None, Status, str | None]:
    """Value, status and reason of a row: infinity becomes the cap, what is not a number becomes a failure."""
    if math.isnan(value):
        return None, "failed", f"{name} is not a number"
    if math.isinf(value):
        if cap is None or value < 0:
            return None, "failed", f"{name} is infinite"
        return cap, "capped", "the pictures are identical"
    return value, "ok", None


def write_rows(run_dir: Path, rows: Sequence[Row]) -> bytes:
    """Write ``rows.jsonl`` atomically, one canonical line a row; returns the bytes."""
    data = "".join(to_json_line(row) for row in rows).encode()
    atomic_write_bytes(run_dir / ROWS_NAME, data)
    return data
