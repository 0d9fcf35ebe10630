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
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import ImageError, IntegrityError, RefsrError
from refsr_bench.images import decode_image, encode_png, read_bytes
from refsr_bench.protocols.inputs import finish_output, prepare_hr, prepare_inputs
from refsr_bench.protocols.references import arrange_references, references_of
from refsr_bench.protocols.spec import EvalProtocol, Metric, signature_of
from refsr_bench.schema import Image, ModelCard, Record, Row
from refsr_bench.store import Dataset, atomic_write_bytes, load_sample, read_stored_image, to_json_line

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


def restore_all(
    model: Restorer,
    dataset: Dataset,
    records: Sequence[Record],
    protocol: EvalProtocol,
    refs_rule: str,
    run_dir: Path,
    on_item: Callable[[Attempt | None], None],
    *,
    lr: str = "protocol",
) -> None:
    """First pass: write ``sr/<name>.png`` for every record that has none yet.

    ``lr`` is "protocol", or "shipped.KERNEL" to give the model the LR pictures that the dataset ships.

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
            data = encode_png(_restore_one(model, dataset, record, protocol, refs_rule, lr))
        except Exception as error:  # any fault of one sample is that sample's row; Ctrl-C and SIGTERM pass through
            attempt = Attempt(record.name, None, _reason(error))
        else:
            atomic_write_bytes(target, data)
            attempt = Attempt(record.name, round(time.perf_counter() - started, 4), None)
        _append_line(run_dir / JOURNAL_NAME, attempt._asdict())
        on_item(attempt)


def _restore_one(
    model: Restorer, dataset: Dataset, record: Record, protocol: EvalProtocol, refs_rule: str, lr: str
) -> Image:
    if record.hr is None:
        raise ImageError("the sample has no HR picture to make an LR picture from")
    sample = load_sample(dataset, record, references_of(record, refs_rule, dataset.info.name))
    assert sample.hr is not None
    hr, shipped = sample.hr, None if lr == "protocol" else sample.lr
    if lr != "protocol" and shipped is None:
        raise ImageError("the dataset ships no LR picture of this sample")

    def make_lr() -> Image:
        if shipped is not None:
            return shipped
        return prepare_inputs(hr, [], protocol).lr

    refs = arrange_references(refs_rule, sample.refs, make_lr)
    if model.card.uses_reference and not refs:
        raise RefsrError("the model needs a reference and this sample has none")
    inputs = prepare_inputs(hr, refs, protocol, shipped_lr=shipped)
    return finish_output(model.restore(inputs.lr, inputs.refs), inputs, protocol)


def _reason(error: Exception) -> str:
    if isinstance(error, RefsrError):
        return str(error).replace("\n  ", "; ")
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"


def _append_line(path: Path, value: dict[str, Any]) -> None:
    line = json.dumps(value, ensure_ascii=False) + "\n"
    if path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        line = "\n" + line  # the last writer was killed in the middle of its line
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_journal(run_dir: Path) -> dict[str, Attempt]:
    """The last attempt of every sample; a line that a killed run left broken is passed over."""
    path = run_dir / JOURNAL_NAME
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
    *,
    lr: str = "protocol",
    subset: str | None = None,
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
            sr, note = _read_sr(sr_path(record.name), reasons.get(record.name))
            fault = None
        except RefsrError as error:
            fault = _reason(error)
        try:
            refs = tuple(record.refs[i].path for i in references_of(record, refs_rule, dataset.info.name))
        except RefsrError:
            refs = ()
        for metric in metrics:
            value, status, reason = None, "failed", fault
            if fault is None:
                value, status, reason = _score_one(metric, hr, sr, protocol.crop_px)
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
                        metric,
                        protocol,
                        dataset_id=dataset.info.id,
                        samples=len(records),
                        refs_rule=refs_rule,
                        lr=lr,
                        subset=subset,
                    )
                ),
                status=status,
                reason=reason or (note if fault is None else None),
            )


def _read_sr(path: Path, known_reason: str | None) -> tuple[Image, str | None]:
    if not path.is_file():
        raise IntegrityError(known_reason or f"there is no restored picture {path.name}")
    decoded = decode_image(read_bytes(path), path.name)
    return decoded.pixels, "; ".join(decoded.conversions) or None


def _score_one(metric: Metric, hr: Image, sr: Image, crop_px: int) -> tuple[float | None, Any, str | None]:
    try:
        value = metric.compute(hr, sr, crop_px)
    except RefsrError as error:
        return None, "failed", _reason(error)
    if math.isnan(value):
        return None, "failed", f"{metric.name} is not a number"
    if math.isinf(value):
        if metric.cap is None or value < 0:
            return None, "failed", f"{metric.name} is infinite"
        return metric.cap, "capped", "the pictures are identical"
    return value, "ok", None


def write_rows(run_dir: Path, rows: Sequence[Row]) -> bytes:
    """Write ``rows.jsonl`` atomically, one canonical line a row; returns the bytes."""
    data = "".join(to_json_line(row) for row in rows).encode()
    atomic_write_bytes(run_dir / ROWS_NAME, data)
    return data
