"""Evaluation in two passes: restore every sample to a PNG, then score only what is on disk.

A run folder::

    run.json        `RunInfo`: model, dataset, protocol, versions, timings; written first and again at the end
    journal.jsonl   one line an attempt while restoring: seconds, or the reason of a failure
                    (`journal.2of4.jsonl` where the samples are divided among processes)
    sr/<name>.png   the restored pictures
    rows.jsonl      one `Row` per sample and metric; identical bytes however often the run was interrupted
"""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from refsr_bench.disk import atomic_write_bytes, find_leftovers, sha256_bytes, short_name
from refsr_bench.errors import ImageError, IntegrityError, RefsrError
from refsr_bench.images import decode_image, encode_png, read_bytes
from refsr_bench.protocols.inputs import Inputs, finish_output, prepare_hr, prepare_inputs
from refsr_bench.protocols.memory import peak_memory_bytes
from refsr_bench.protocols.references import arrange_references, select_references
from refsr_bench.protocols.spec import PROTOCOL_LR, EvalProtocol, Metric, same_pictures, signature_of
from refsr_bench.schema import Image, ModelCard, Record, Row
from refsr_bench.signature import Signature
from refsr_bench.store import Dataset, load_sample, read_stored_image, to_json_line

ROWS_NAME = "rows.jsonl"
RUN_NAME = "run.json"
JOURNAL_NAME = "journal.jsonl"


class Restorer(Protocol):
    """The part of a model that evaluation needs (see `refsr_bench.models.base.SRModel`)."""

    card: ModelCard

    def restore(self, lr: Image, refs: Sequence[Image]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` with the help of ``refs``."""
        ...


class Outcome(NamedTuple):
    """A row's number, or why there is none."""

    value: float | None
    status: Literal["ok", "capped", "failed"]
    reason: str | None


class Attempt(NamedTuple):
    """One journal line: how restoring a sample went."""

    sample: str
    seconds: float | None
    reason: str | None
    peak_memory_bytes: int | None = None
    """Largest resident set so far of the process that did it."""


class Task(NamedTuple):
    """What is evaluated: samples of a dataset, under a protocol, each with the references that a rule picks.

    ``lr`` is `PROTOCOL_LR`, or "shipped.KERNEL" for the LR images that the dataset ships; ``subset`` is what a
    signature calls the subset that the samples are of; ``model_keys`` is what the model adds to signatures.
    """

    dataset: Dataset
    records: tuple[Record, ...]
    protocol: EvalProtocol
    refs_rule: str
    lr: str = PROTOCOL_LR
    subset: str | None = None
    model_keys: Mapping[str, str] | None = None

    def references_of(self, record: Record) -> tuple[int, ...]:
        """Positions of the references that the rule picks from a record."""
        key = f"{self.dataset.info.name}|{record.name}"
        return select_references(self.refs_rule, [ref.level for ref in record.refs], key=key)

    def load_inputs(self, record: Record) -> Inputs:
        """Read a sample and make of it what the protocol lets a model see."""
        if record.hr is None:
            raise ImageError("the sample has no HR picture to make an LR picture from")
        sample = load_sample(self.dataset, record, self.references_of(record))
        assert sample.hr is not None
        shipped = None if self.lr == PROTOCOL_LR else sample.lr
        if self.lr != PROTOCOL_LR and shipped is None:
            raise ImageError("the dataset ships no LR picture of this sample")
        alone = functools.partial(prepare_inputs, sample.hr, (), self.protocol, shipped_lr=shipped)
        refs = arrange_references(self.refs_rule, sample.refs, lambda: alone().lr)
        return prepare_inputs(sample.hr, refs, self.protocol, shipped_lr=shipped)


class Shard(NamedTuple):
    """Part ``number`` (1 to ``total``) of the samples, every ``total``-th one, for one of several processes."""

    number: int = 1
    total: int = 1

    def pick(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records of this part."""
        return records[self.number - 1 :: self.total]

    def own_name(self, name: str) -> str:
        """``journal.jsonl`` as ``journal.2of4.jsonl``: processes do not write to one file; unchanged if undivided."""
        stem, _, suffix = name.rpartition(".")
        return name if self.total == 1 else f"{stem}.{self.number}of{self.total}.{suffix}"


ALL = Shard()


class Target(NamedTuple):
    """A task and the run folder that its results go to."""

    task: Task
    run_dir: Path

    def picture(self, name: str) -> Path:
        """Where the restored picture of a sample lies."""
        return self.run_dir / "sr" / f"{name}.png"


def restore_all(
    model: Restorer, targets: Sequence[Target], on_item: Callable[[Attempt | None], None], shard: Shard = ALL
) -> None:
    """First pass: write ``sr/<name>.png`` of every target for every record of the shard that has none yet.

    The targets are the same samples under different protocols or reference rules; where these give the model equal
    pixels, it is called once. A picture that exists is complete (it was published with one rename) and is kept. A
    sample that fails is a journal line with its reason and the run goes on; a later call tries it again. ``on_item`` is
    called once a record, with None where every picture was already there.
    """
    records = shard.pick(targets[0].task.records)
    for target in targets:
        remove_leftovers([target.picture(record.name) for record in records])
    for record in records:
        outputs: dict[str, NDArray[np.float32] | Exception] = {}
        due = [target for target in targets if not target.picture(record.name).is_file()]
        attempts = [_restore_for(model, target, record, targets, outputs) for target in due]
        for target, attempt in zip(due, attempts, strict=True):
            append_line(target.run_dir / shard.own_name(JOURNAL_NAME), attempt._asdict())
        on_item(next((attempt for attempt in attempts if attempt.reason), attempts[0]) if attempts else None)


def _restore_for(
    model: Restorer,
    target: Target,
    record: Record,
    targets: Sequence[Target],
    outputs: dict[str, NDArray[np.float32] | Exception],
) -> Attempt:
    """Write one picture; the attempt has no seconds where the model was not called for it."""
    started, calls = time.perf_counter(), len(outputs)
    same = (t.picture(record.name) for t in targets if _same_pictures(t.task, target.task))
    try:
        twin = next((path for path in same if path.is_file()), None)
        data = read_bytes(twin) if twin else encode_png(_restore_one(model, target.task, record, outputs))
    except Exception as error:  # any fault of one sample is that sample's row; Ctrl-C and SIGTERM pass through
        attempt = Attempt(record.name, None, reason_of(error))
    else:
        atomic_write_bytes(target.picture(record.name), data)
        seconds = round(time.perf_counter() - started, 4) if len(outputs) > calls else None
        attempt = Attempt(record.name, seconds, None, peak_memory_bytes())
    return attempt


def _same_pictures(a: Task, b: Task) -> bool:
    return a.refs_rule == b.refs_rule and same_pictures(a.protocol, b.protocol)


def _restore_one(
    model: Restorer, task: Task, record: Record, outputs: dict[str, NDArray[np.float32] | Exception]
) -> Image:
    inputs = task.load_inputs(record)
    if model.card.uses_reference and not inputs.refs:
        raise RefsrError("the model needs a reference and is given none", "--refs lr-native or lr-up: its own LR")
    most = model.card.max_references
    if model.card.uses_reference and most is not None and len(inputs.refs) > most:
        raise RefsrError(f"the model takes {most} reference(s), the rule gives {len(inputs.refs)}")
    seen = (inputs.lr, *inputs.refs) if model.card.uses_reference else (inputs.lr,)
    key = sha256_bytes(b"".join(f"{image.shape}".encode() + image.tobytes() for image in seen))
    if key not in outputs:
        try:
            outputs[key] = model.restore(inputs.lr, inputs.refs)
        except Exception as error:  # the same input would fail again
            outputs[key] = error
    output = outputs[key]
    if isinstance(output, Exception):
        raise output
    return finish_output(output, inputs, task.protocol)


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


def remove_leftovers(paths: Sequence[Path]) -> None:
    """Remove what killed writers of these files left beside them; another process's files are not touched."""
    mine = {short_name(path) for path in paths}
    for folder in {path.parent for path in paths}:
        for leftover, name in find_leftovers(folder).items():
            if name in mine:
                leftover.unlink(missing_ok=True)


def read_journal(run_dir: Path, name: str = JOURNAL_NAME) -> dict[str, Attempt]:
    """The last attempt of every sample, a success before a failure of another process; broken lines are passed over."""
    stem, _, suffix = name.rpartition(".")
    attempts: dict[str, Attempt] = {}
    for path in sorted(run_dir.glob(f"{stem}.*{suffix}")):
        found = _read_attempts(path)
        attempts |= {sample: a for sample, a in found.items() if a.reason is None or sample not in attempts}
    return attempts


def _read_attempts(path: Path) -> dict[str, Attempt]:
    attempts = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            attempt = Attempt(**json.loads(line))
        except (ValueError, TypeError):
            continue
        attempts[attempt.sample] = attempt
    return attempts


def score_all(
    model_name: str,
    task: Task,
    metrics: Sequence[Metric],
    sr_path: Callable[[str], Path],
    reasons: Mapping[str, str],
) -> Iterator[Row]:
    """Second pass: rows of every record and metric, from the pictures at ``sr_path(name)`` alone.

    ``reasons`` explains missing pictures (from the journal). Infinity becomes the metric's cap with status "capped";
    NaN and every fault become a row with status "failed" and a reason, never a number.
    """
    for record in task.records:
        note = fault = None
        try:
            if record.hr is None:
                raise ImageError("the sample has no HR picture to score against")
            hr = prepare_hr(read_stored_image(task.dataset.root, record.hr), task.protocol)
            sr, note = read_sr(sr_path(record.name), reasons.get(record.name))
        except RefsrError as error:
            fault = reason_of(error)
        for metric in metrics:
            outcome = Outcome(None, "failed", fault) if fault else _score_one(metric, hr, sr, task.protocol)
            signature = signature_of(
                metric,
                task.protocol,
                dataset_id=task.dataset.info.id,
                samples=len(task.records),
                refs_rule=task.refs_rule,
                lr=task.lr,
                subset=task.subset,
                model_keys=task.model_keys,
            )
            yield make_row(model_name, task, record, signature, outcome._replace(reason=outcome.reason or note))


def make_row(model_name: str, task: Task, record: Record, signature: Signature, outcome: Outcome) -> Row:
    """The row of one number of one sample."""
    try:
        refs = tuple(record.refs[i].path for i in task.references_of(record))
    except RefsrError:
        refs = ()
    return Row(
        model=model_name,
        dataset=task.dataset.info.id,
        sample=record.name,
        group=record.group,
        refs=refs,
        metric=signature.metric,
        signature=str(signature),
        **outcome._asdict(),
    )


def read_sr(path: Path, known_reason: str | None) -> tuple[Image, str | None]:
    """Read a restored picture, and what had to be converted; `IntegrityError` says why there is none."""
    if not path.is_file():
        raise IntegrityError(known_reason or f"there is no restored picture {path.name}")
    decoded = decode_image(read_bytes(path), path.name)
    return decoded.pixels, "; ".join(decoded.conversions) or None


def _score_one(metric: Metric, hr: Image, sr: Image, protocol: EvalProtocol) -> Outcome:
    plane = {"luma": protocol.luma} if metric.keys.get("ch") == "luma" else {}
    try:
        return judge(metric, metric.compute(hr, sr, protocol.crop_px, **plane))
    except RefsrError as error:
        return Outcome(None, "failed", reason_of(error))


def judge(metric: Metric, value: float) -> Outcome:
    """What becomes of a metric's value: infinity is the cap, what is not a number is a failure."""
    if math.isnan(value):
        return Outcome(None, "failed", f"{metric.name} is not a number")
    if math.isinf(value):
        if metric.cap is None or value < 0:
            return Outcome(None, "failed", f"{metric.name} is infinite")
        return Outcome(metric.cap, "capped", "the pictures are identical")
    return Outcome(value, "ok", None)


def write_rows(run_dir: Path, rows: Sequence[Row]) -> bytes:
    """Write ``rows.jsonl`` atomically, one canonical line a row; returns the bytes."""
    data = "".join(to_json_line(row) for row in rows).encode()
    atomic_write_bytes(run_dir / ROWS_NAME, data)
    return data
