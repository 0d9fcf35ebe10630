"""One restoration for many protocols: a model runs once for each distinct input that they give it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import RefsrError
from refsr_bench.images import encode_png
from refsr_bench.protocols.evaluate import JOURNAL_NAME, Attempt, Restorer, append_line, load_inputs, reason_of
from refsr_bench.protocols.inputs import Inputs, finish_output
from refsr_bench.protocols.matching import Task
from refsr_bench.protocols.spec import same_pictures
from refsr_bench.schema import Image, Record
from refsr_bench.store import atomic_write_bytes, sha256_bytes


class Target(NamedTuple):
    """One protocol's run: its samples and the folder that its pictures go to."""

    task: Task
    run_dir: Path

    def path(self, record: Record) -> Path:
        """The restored picture of a record."""
        return self.run_dir / "sr" / f"{record.name}.png"


def group_by_pictures(targets: Sequence[Target]) -> dict[Path, Target]:
    """For every run folder the first target whose pictures are the same by definition: those are made once."""
    first: dict[Path, Target] = {}
    for target in targets:
        twin = (t for t in first.values() if same_pictures(t.task.protocol, target.task.protocol))
        first[target.run_dir] = next(twin, target)
    return first


def restore_shared(model: Restorer, targets: Sequence[Target], on_item: Callable[[Attempt | None], None]) -> None:
    """First pass for several protocols on the same records: each target gets its ``sr/<name>.png``.

    As `refsr_bench.protocols.evaluate.restore_all`, except that targets which give the model equal pixels share one
    call of it; the journal of a target that only shared has no seconds. ``on_item`` is called once a record.
    """
    for record in targets[0].task.records:
        due = [target for target in targets if not target.path(record).is_file()]
        outputs: dict[str, NDArray[np.float32] | Exception] = {}
        attempts = [_restore_for(model, target, record, outputs) for target in due]
        on_item(next((attempt for attempt in attempts if attempt.reason), attempts[0]) if attempts else None)


def _restore_for(
    model: Restorer, target: Target, record: Record, outputs: dict[str, NDArray[np.float32] | Exception]
) -> Attempt:
    task, started, calls = target.task, time.perf_counter(), len(outputs)
    try:
        inputs = load_inputs(task.dataset, record, task.protocol, task.refs_rule)
        data = encode_png(_output(model, inputs, target, outputs))
    except Exception as error:  # any fault of one sample is that sample's row; Ctrl-C and SIGTERM pass through
        attempt = Attempt(record.name, None, reason_of(error))
    else:
        atomic_write_bytes(target.path(record), data)
        ran = len(outputs) > calls
        attempt = Attempt(record.name, round(time.perf_counter() - started, 4) if ran else None, None)
    append_line(target.run_dir / JOURNAL_NAME, attempt._asdict())
    return attempt


def _output(
    model: Restorer, inputs: Inputs, target: Target, outputs: dict[str, NDArray[np.float32] | Exception]
) -> Image:
    if model.card.uses_reference and not inputs.refs:
        raise RefsrError("the model needs a reference and this sample has none")
    key = _digest((inputs.lr, *inputs.refs) if model.card.uses_reference else (inputs.lr,))
    if key not in outputs:
        try:
            outputs[key] = model.restore(inputs.lr, inputs.refs)
        except Exception as error:  # the same input would fail again
            outputs[key] = error
    output = outputs[key]
    if isinstance(output, Exception):
        raise output
    return finish_output(output, inputs, target.task.protocol)


def _digest(images: Sequence[Image]) -> str:
    return sha256_bytes(b"".join(f"{image.shape}".encode() + image.tobytes() for image in images))
