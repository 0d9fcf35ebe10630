"""Evaluation of matchers, in the same two passes: matches to ``flow/<name>.npz``, then scores from what is on disk.

Only samples whose true correspondences the dataset knows are matched; the signature's ``gt`` says how many those are.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refsr_bench.disk import atomic_write_bytes
from refsr_bench.errors import IntegrityError, RefsrError
from refsr_bench.geometry import patch_centres
from refsr_bench.images import resize_bicubic
from refsr_bench.protocols.correspondence import MatchErrors, check_matches, match_errors, match_signature
from refsr_bench.protocols.evaluate import (
    ALL,
    Attempt,
    Outcome,
    Shard,
    Task,
    append_line,
    judge,
    make_row,
    read_sr,
    reason_of,
    remove_leftovers,
)
from refsr_bench.protocols.inputs import Inputs, prepare_hr
from refsr_bench.protocols.memory import peak_memory_bytes
from refsr_bench.protocols.spec import Metric, signature_of
from refsr_bench.protocols.truth import TrueMap, has_truth, load_truth, on_canvas, visible_mask
from refsr_bench.schema import Image, Matches, ModelCard, Record, Row, StoredReference
from refsr_bench.store import read_stored_image

MATCH_JOURNAL_NAME = "journal-match.jsonl"
FLOW_FOLDER = "flow"


class Matching(Protocol):
    """The part of a matcher that evaluation needs (see `refsr_bench.models.base.Matcher`)."""

    card: ModelCard

    def match(self, lr_up: Image, ref: Image, **given: Any) -> Matches:
        """Find a point of ``ref`` for every node of ``lr_up``."""
        ...


def reference_of(task: Task, record: Record) -> int | None:
    """Position of the record's only reference under the task's rule; None if the rule gives none or several."""
    try:
        chosen = task.references_of(record)
    except RefsrError:
        return None
    return chosen[0] if len(chosen) == 1 else None


def with_truth(task: Task) -> tuple[Record, ...]:
    """The records whose true correspondences are known."""
    return tuple(record for record in task.records if has_truth(record, reference_of(task, record)))


def _stored_reference(task: Task, record: Record) -> StoredReference:
    index = reference_of(task, record)
    assert index is not None  # it is one of `with_truth`
    return record.refs[index]


def match_all(
    matcher: Matching, task: Task, run_dir: Path, on_item: Callable[[Attempt | None], None], shard: Shard = ALL
) -> None:
    """First pass: write ``flow/<name>.npz`` for every record of the shard with known truth that has none yet.

    Resumes and reports as `refsr_bench.protocols.evaluate.restore_all` does, in a journal of its own.
    """
    records = shard.pick(with_truth(task))
    remove_leftovers([run_dir / FLOW_FOLDER / f"{record.name}.npz" for record in records])
    for record in records:
        target = run_dir / FLOW_FOLDER / f"{record.name}.npz"
        if target.is_file():
            on_item(None)
            continue
        started = time.perf_counter()
        try:
            data = _encode(match_one(matcher, task, record))
        except Exception as error:  # any fault of one sample is that sample's row
            attempt = Attempt(record.name, None, reason_of(error))
        else:
            atomic_write_bytes(target, data)
            attempt = Attempt(record.name, round(time.perf_counter() - started, 4), None, peak_memory_bytes())
        append_line(run_dir / shard.own_name(MATCH_JOURNAL_NAME), attempt._asdict())
        on_item(attempt)


def match_one(matcher: Matching, task: Task, record: Record) -> Matches:
    """Let a matcher see what its card says, and no more, and check what it returns."""
    inputs = task.load_inputs(record)
    ref = inputs.refs[0]
    height, width = inputs.hr_canvas.shape[:2]
    if matcher.card.sees == "hr":
        matches = matcher.match(inputs.hr_canvas, ref)
    else:
        lr_up = resize_bicubic(inputs.lr, height, width)
        if matcher.card.sees == "truth":
            truth = _canvas_truth(task, record, inputs)
            matches = matcher.match(lr_up, ref, true_points=truth(patch_centres(height, width)))
        else:
            matches = matcher.match(lr_up, ref)
    check_matches(matches, inputs)
    return matches


def _canvas_truth(task: Task, record: Record, inputs: Inputs) -> TrueMap:
    return on_canvas(load_truth(task.dataset, _stored_reference(task, record)), inputs.hr_frame, inputs.ref_frames[0])


def _encode(matches: Matches) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: array.astype(np.float32) for name, array in matches._asdict().items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_matches(path: Path) -> Matches:
    """Matches that the first pass wrote; `IntegrityError` if the file is missing or damaged."""
    if not path.is_file():
        raise IntegrityError(f"there are no matches {path.name}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return Matches(*(archive[name].astype(np.float64) for name in Matches._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path}: damaged or not a file of matches ({error})") from None


def errors_of(task: Task, record: Record, matches: Matches, centre: str = "half") -> MatchErrors:
    """End-point errors of one record's matches."""
    inputs = task.load_inputs(record)
    check_matches(matches, inputs)
    return match_errors(matches, _canvas_truth(task, record, inputs), inputs.hr_frame, inputs.ref_frames[0], centre)


def score_matches(
    card: ModelCard, task: Task, metrics: Sequence[Metric], run_dir: Path, reasons: Mapping[str, str]
) -> Iterator[Row]:
    """Second pass: rows of every record with true correspondences, from ``flow/<name>.npz`` alone."""
    chosen = with_truth(task)
    centres = {metric.keys["centre"] for metric in metrics}
    for record in chosen:
        errors: dict[str, MatchErrors] = {}
        fault = None
        try:
            matches = _read_flow(run_dir, record.name, reasons)
            errors = {centre: errors_of(task, record, matches, centre) for centre in centres}
        except RefsrError as error:
            fault = reason_of(error)
        for metric in metrics:
            signature = match_signature(
                metric,
                task.protocol,
                dataset_id=task.dataset.info.id,
                samples=len(task.records),
                refs_rule=task.refs_rule,
                with_truth=len(chosen),
                sees=card.sees,
                lr=task.lr,
                subset=task.subset,
            )
            centre = metric.keys["centre"]
            outcome = Outcome(None, "failed", fault) if fault else _judge_matches(metric, errors[centre])
            yield make_row(card.name, task, record, signature, outcome)


def _read_flow(run_dir: Path, name: str, reasons: Mapping[str, str]) -> Matches:
    path = run_dir / FLOW_FOLDER / f"{name}.npz"
    if not path.is_file() and name in reasons:
        raise IntegrityError(reasons[name])
    return read_matches(path)


def _judge_matches(metric: Metric, errors: MatchErrors) -> Outcome:
    if not errors.distances_px.size and metric.name != "valid_fraction":
        return Outcome(None, "failed", "no node's true point is known and lies 10 px inside the reference")
    return judge(metric, metric.compute(errors))


def score_visible(
    model_name: str,
    task: Task,
    metrics: Sequence[Metric],
    sr_path: Callable[[str], Path],
    reasons: Mapping[str, str],
) -> Iterator[Row]:
    """Rows of the scores over visible pixels, from the pictures at ``sr_path(name)`` alone."""
    chosen = with_truth(task)
    for record in chosen:
        fault = None
        try:
            hr, sr, visible = _read_pictures(task, record, sr_path(record.name), reasons)
        except RefsrError as error:
            fault = reason_of(error)
        for metric in metrics:
            signature = signature_of(
                metric,
                task.protocol,
                dataset_id=task.dataset.info.id,
                samples=len(task.records),
                refs_rule=task.refs_rule,
                with_truth=len(chosen),
                lr=task.lr,
                subset=task.subset,
                model_keys=task.model_keys,
            )
            outcome = Outcome(None, "failed", fault) if fault else _score_visible(metric, hr, sr, visible, task)
            yield make_row(model_name, task, record, signature, outcome)


def _read_pictures(
    task: Task, record: Record, path: Path, reasons: Mapping[str, str]
) -> tuple[Image, Image, NDArray[np.bool_]]:
    assert record.hr is not None
    hr = prepare_hr(read_stored_image(task.dataset.root, record.hr), task.protocol)
    sr, _ = read_sr(path, reasons.get(record.name))
    frame = task.load_inputs(record).ref_frames[0]
    return hr, sr, visible_mask(task.dataset, _stored_reference(task, record), hr.shape, frame)


def _score_visible(metric: Metric, hr: Image, sr: Image, visible: NDArray[np.bool_], task: Task) -> Outcome:
    try:
        return judge(metric, metric.compute(hr, sr, visible, task.protocol.crop_px, luma=task.protocol.luma))
    except RefsrError as error:
        return Outcome(None, "failed", reason_of(error))
