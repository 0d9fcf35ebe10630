"""A quick look at a model that is still being trained: a few mean scores, nothing kept on disk, no signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refsr_bench.protocols.evaluate import Task
from refsr_bench.protocols.fidelity import psnr_y, ssim_y
from refsr_bench.protocols.inputs import Inputs, finish_output
from refsr_bench.protocols.matching import Matching, errors_of, match_one, with_truth
from refsr_bench.schema import Image


class Probed(Matching, Protocol):
    """A model that may restore and may match."""

    def restore(self, lr: Image, refs: Sequence[Image]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` with the help of ``refs``."""
        ...


def probe(model: Probed, task: Task, *, restores: bool, matches: bool) -> dict[str, float]:
    """Mean scores of a model over a task's samples, in the task's protocol.

    ``psnr_y`` (dB), ``ssim_y``, ``reference_gain`` (dB: with the reference minus with a black one of its size, over
    the samples that have one) if it restores; ``aee`` (HR px, over the samples with true correspondences) if it
    matches. What cannot be measured is absent.
    """
    found: dict[str, list[float]] = {}
    for record in task.records if restores else ():
        inputs = task.load_inputs(record)
        if not inputs.refs:
            continue
        scores = _scores(model, inputs, task)
        black = _scores(model, inputs._replace(refs=tuple(np.zeros_like(ref) for ref in inputs.refs)), task)
        for name, value in (("psnr_y", scores[0]), ("ssim_y", scores[1]), ("reference_gain", scores[0] - black[0])):
            found.setdefault(name, []).append(value)
    for record in with_truth(task) if matches else ():
        distances = errors_of(task, record, match_one(model, task, record)).distances_px
        if distances.size:
            found.setdefault("aee", []).append(float(distances.mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _scores(model: Probed, inputs: Inputs, task: Task) -> tuple[float, float]:
    sr = finish_output(model.restore(inputs.lr, inputs.refs), inputs, task.protocol)
    crop = task.protocol.crop_px
    return psnr_y(inputs.hr, sr, crop), ssim_y(inputs.hr, sr, crop)
