"""The paper's ablation as one sequence: train four networks, evaluate them alike, draw what each step adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.output import note

if TYPE_CHECKING:
    from refsr_bench.models.c2matching.training_data import Source
    from refsr_bench.protocols.evaluate import Task

    Found = tuple[tuple[Source, ...], list[str]]

STRIPS = 3
"""Samples whose crops are drawn: those that the whole ladder gains most on."""


def climb(
    found: Found,
    dataset: str,
    steps: tuple[int, int],
    settings: Sequence[str],
    out: Path,
    device: str,
    train_here: Callable[..., Path],
) -> None:
    """Train the two students and the four rungs, skipping what is finished; then evaluate and draw."""
    from refsr_bench.cli.runner import open_tasks
    from refsr_bench.models.c2matching.config import LADDER, make_config
    from refsr_bench.models.c2matching.loop import joined
    from refsr_bench.models.tensors import select_device
    from refsr_bench.protocols.spec import DEFAULT

    [task] = open_tasks(dataset, [DEFAULT], None, None)  # before hours of training for it
    restoration_steps, contrastive_steps = steps
    length = f"iterations={contrastive_steps}"
    plan: list[tuple[str, str, list[str]]] = [
        ("teacher", "teacher", [length]),
        ("student", "student", [length]),
        ("student-distilled", "student", [length, f"teacher={out / 'teacher'}", "distillation_weight=15"]),
    ]
    students = {"contrastive": "student", "distillation": "student-distilled"}
    for rung, fields in LADDER.items():
        own = [f"{name}={value}" for name, value in fields.items()]
        if rung in students:
            own.append(f"extractor={out / students[rung]}")
        plan.append((rung, "restoration", [f"iterations={restoration_steps}", *settings, *own]))
    configs = [(name, make_config(stage, "small", chosen)) for name, stage, chosen in plan]
    with joined(select_device(device)) as place:
        for name, config in configs:
            if (out / name / "weights" / "weights.json").is_file():
                note(f"{name} is trained already")
            else:
                train_here(out / name, config, found, place, True)
        if place.rank == 0:
            _evaluate(list(LADDER), task, out, device)


def _evaluate(rungs: list[str], task: Task, out: Path, device: str) -> None:
    from refsr_bench.cli.figures import ablation, crops
    from refsr_bench.cli.reporting import report
    from refsr_bench.cli.runner import evaluate, load_plugin
    from refsr_bench.protocols.evaluate import Target
    from refsr_bench.protocols.subsets import select_subset

    finished = []
    for rung in rungs:
        options = [f"weights={out / rung}", f"label={rung}"]
        plugin = load_plugin("c2matching-small", options, {"device": device})
        finished += evaluate(plugin, [Target(task, out / rung / "evaluation")], overwrite=True)
    names = [record.name for record in select_subset(task.dataset, "texture")[1]]
    subset = out / "texture.txt"
    subset.write_text("\n".join(names) + "\n", "utf-8")
    runs = tuple(run.target.run_dir for run in finished)
    figure: dict[str, Any] = {"runs": runs, "metric": "psnr_y"}
    gains = _gains(finished[0].rows, finished[-1].rows)
    report(finished, False)
    invoke = click.get_current_context().invoke
    invoke(ablation, **figure, labels=tuple(rungs), subset=subset, paper=True, out=out / "ablation.pdf", width="column")
    strips = {"samples": tuple(gains[:STRIPS]), "boxes": (), "dataset": str(task.dataset.root)}
    invoke(crops, **figure, **strips, out=out / "strips.pdf", width="page")


def _gains(first: list[Any], last: list[Any]) -> list[str]:
    """Names of the samples, those first on which PSNR-Y rose most."""
    before, after = (
        {row.sample: row.value for row in rows if row.metric == "psnr_y" and row.value is not None}
        for rows in (first, last)
    )
    return sorted((name for name in before if name in after), key=lambda name: before[name] - after[name])
