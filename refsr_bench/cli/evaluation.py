"""Numbers: ``eval`` and ``score``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.output import json_option, print_json, show_progress
from refsr_bench.errors import ItemsFailed, UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Attempt
    from refsr_bench.protocols.spec import Metric
    from refsr_bench.schema import Record, Row, RunInfo


_DATASET = click.option("--dataset", required=True, metavar="NAME|DIR", help="A built dataset.")
_PROTOCOL = click.option("--protocol", default="c2-2021", show_default=True, metavar="NAME", help="How to score.")
_REFS = click.option("--refs", "refs_rule", metavar="RULE", help="first, none or levelK  [default: first, if any]")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
_OUT = click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/DATASET/MODEL/...]")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace another run that is in the run folder.")


@click.command("eval")
@click.argument("model_name", metavar="MODEL")
@_DATASET
@_PROTOCOL
@_REFS
@_LIMIT
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:N.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A model option, e.g. weights=DIR.")
@_OUT
@_OVERWRITE
@json_option
def eval_command(
    model_name: str,
    dataset: str,
    protocol: str,
    refs_rule: str | None,
    limit: int | None,
    device: str,
    settings: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Evaluate MODEL on a dataset: restore every sample to a PNG, then score what is on disk.

    Run the same command again after an interruption: finished pictures are kept. Failed samples become rows with a
    reason, and the exit code is 5.

    \b
    Examples:
      refsr-bench eval bicubic --dataset demo
      refsr-bench eval c2matching --dataset demo --set weights=~/c2-weights --limit 3
    """
    from refsr_bench.lookup import find
    from refsr_bench.protocols.evaluate import read_journal, restore_all
    from refsr_bench.protocols.run import finish_run, open_run

    factory = find("models", model_name)
    setup = _Setup(dataset, protocol, refs_rule, limit)
    options = _model_options(factory, model_name, settings, device)
    model = factory(**options)
    run_dir = out or Path("runs") / setup.dataset.info.name / model.card.name / setup.protocol.name / setup.refs_rule
    run_info = setup.run_info(model.card, options, images="sr", device=device)
    with open_run(run_dir, run_info, overwrite=overwrite):
        with show_progress(f"{model.card.name} on {setup.dataset.info.id}", len(setup.records)) as advance:
            done = iter(range(1, len(setup.records) + 1))

            def on_item(attempt: Attempt | None) -> None:
                advance(next(done))

            restore_all(model, setup.dataset, setup.records, setup.protocol, setup.refs_rule, run_dir, on_item)
        attempts = read_journal(run_dir)
        reasons = {name: attempt.reason for name, attempt in attempts.items() if attempt.reason is not None}
        rows = setup.score(model.card.name, lambda name: run_dir / "sr" / f"{name}.png", reasons)
        chosen = [attempts[record.name] for record in setup.records if record.name in attempts]
        finished = finish_run(run_dir, run_info, rows, chosen)
    _report(run_dir, finished, rows, as_json)


@click.command()
@click.argument("images", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_DATASET
@_PROTOCOL
@_REFS
@_LIMIT
@click.option("--name", metavar="NAME", help="Name of the method in rows and tables  [default: the folder's name]")
@click.option(
    "--pattern", default="{name}.png", show_default=True, metavar="TEXT", help="File name; {name} is the sample's."
)
@_OUT
@_OVERWRITE
@json_option
def score(
    images: Path,
    dataset: str,
    protocol: str,
    refs_rule: str | None,
    limit: int | None,
    name: str | None,
    pattern: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score the pictures in DIR, made by any program, one per sample.

    \b
    Examples:
      refsr-bench score runs/demo/bicubic/c2-2021/first/sr --dataset demo --name mine
      refsr-bench score results/ --dataset cathedral --pattern "{name}_C2_matching_mse.png"
    """
    from refsr_bench.protocols.run import finish_run, open_run
    from refsr_bench.schema import ModelCard

    if "{name}" not in pattern or "/" in pattern or "\\" in pattern:
        raise UsageError(f"--pattern {pattern!r} must be a file name that contains {{name}}")
    setup = _Setup(dataset, protocol, refs_rule, limit)
    label = name or images.resolve().name
    card = ModelCard(name=label, title=f"pictures in {images}", paper="made elsewhere", uses_reference=True)
    run_dir = out or Path("runs") / setup.dataset.info.name / f"scored-{label}" / setup.protocol.name / setup.refs_rule
    run_info = setup.run_info(card, {}, images=str(images.resolve()), device=None, file_pattern=pattern)
    with open_run(run_dir, run_info, overwrite=overwrite):
        rows = setup.score(label, lambda sample: images / pattern.replace("{name}", sample), {})
        finished = finish_run(run_dir, run_info, rows, [])
    _report(run_dir, finished, rows, as_json)


class _Setup:
    """What `eval` and `score` share: the dataset, the protocol, the reference rule, the chosen samples."""

    def __init__(self, dataset: str, protocol: str, refs_rule: str | None, limit: int | None) -> None:
        from refsr_bench.protocols.spec import REFERENCE_RULES, find_protocol
        from refsr_bench.store import open_dataset, resolve_dataset

        self.protocol = find_protocol(protocol)
        self.dataset = open_dataset(resolve_dataset(dataset))
        self.records: tuple[Record, ...] = self.dataset.records[:limit]
        has_refs = any(record.refs for record in self.dataset.records)
        self.refs_rule = refs_rule or ("first" if has_refs else "none")
        if self.refs_rule not in REFERENCE_RULES:
            raise UsageError(
                f"there is no reference rule called {self.refs_rule!r}", did_you_mean(self.refs_rule, REFERENCE_RULES)
            )

    def score(self, model: str, sr_path: Callable[[str], Path], reasons: dict[str, str]) -> list[Row]:
        from refsr_bench.lookup import find, list_entries
        from refsr_bench.protocols.evaluate import score_all

        metrics: list[Metric] = [find("metrics", name) for name in list_entries("metrics")]
        rows = []
        with show_progress("score", len(self.records)) as advance:
            for row in score_all(
                model, self.dataset, self.records, self.protocol, self.refs_rule, metrics, sr_path, reasons
            ):
                rows.append(row)
                advance(len(rows) // len(metrics))
        return rows

    def run_info(
        self, card: Any, options: dict[str, str], *, images: str, device: str | None, file_pattern: str = "{name}.png"
    ) -> RunInfo:
        from refsr_bench.protocols.run import library_versions
        from refsr_bench.schema import RunInfo

        return RunInfo(
            status="running",
            model=card,
            options=options,
            dataset=self.dataset.info.id,
            manifest_sha256=self.dataset.info.manifest_sha256,
            protocol=self.protocol.model_dump(),
            refs_rule=self.refs_rule,
            samples=len(self.records),
            images=images,
            file_pattern=file_pattern,
            device=device,
            versions=library_versions(),
        )


def _model_options(factory: Any, model_name: str, settings: tuple[str, ...], device: str) -> dict[str, str]:
    """``--set`` pairs and the device as keyword arguments of a model's factory; an unknown key is an error."""
    import inspect

    known = set(inspect.signature(factory).parameters)
    options = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE")
        if key not in known:
            raise UsageError(f"{model_name} has no option {key!r}", did_you_mean(key, known))
        options[key] = value
    if "device" in known:
        options.setdefault("device", device)
    elif device != "cpu":
        raise UsageError(f"{model_name} runs on the CPU only")
    return options


def _report(run_dir: Path, finished: RunInfo, rows: list[Row], as_json: bool) -> None:
    from refsr_bench.results.formats import printable, to_json, to_markdown
    from refsr_bench.results.leaderboard import make_tables
    from refsr_bench.results.rows import Run

    tables = make_tables([Run(run_dir, tuple(rows))])
    failed = {row.sample: row.reason for row in rows if row.status == "failed"}
    if as_json:
        print_json(
            {
                "run_dir": str(run_dir),
                "images": str(run_dir / finished.images),
                "run": finished.model_dump(mode="json"),
                "tables": to_json(tables),
                "failed": failed,
            }
        )
    else:
        click.echo(to_markdown(tables))
        click.echo(f"run folder: {run_dir}\nrestored images: {run_dir / finished.images}")
    if failed:
        listing = "".join(f"\n  {printable(f'{sample}: {reason}')}" for sample, reason in list(failed.items())[:20])
        raise ItemsFailed(f"{len(failed)} of {finished.samples} samples failed:{listing}")
