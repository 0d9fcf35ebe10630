"""One evaluation from names to rows, shared by ``eval``, ``score``, ``robustness``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from refsr_bench.cli.output import parse_settings, print_json, show_progress
from refsr_bench.errors import ItemsFailed, UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Attempt
    from refsr_bench.protocols.matching import Task
    from refsr_bench.protocols.spec import EvalProtocol
    from refsr_bench.schema import ModelCard, Record, Row, RunInfo


class Plugin(NamedTuple):
    """A model or matcher, made, and the options it was made with."""

    made: Any
    options: dict[str, str]

    @property
    def card(self) -> ModelCard:
        """What it is."""
        card: ModelCard = self.made.card
        return card

    @property
    def restores(self) -> bool:
        """Whether it makes pictures."""
        return hasattr(self.made, "restore")

    @property
    def matches(self) -> bool:
        """Whether it finds correspondences."""
        return hasattr(self.made, "match")


def find_factory(name: str) -> Any:
    """The factory of a model or matcher; `UsageError` with the nearest name of either kind."""
    from refsr_bench.lookup import find, list_entries

    models, matchers = list_entries("models"), list_entries("matchers")
    if name not in models and name not in matchers:
        raise UsageError(f"there is no model or matcher called {name!r}", did_you_mean(name, [*models, *matchers]))
    return find("models" if name in models else "matchers", name)


def load_plugin(name: str, settings: tuple[str, ...], device: str) -> Plugin:
    """Make a model or matcher with its ``--set`` options and, if it takes one, the device."""
    import inspect

    factory = find_factory(name)
    options = parse_settings(name, factory, settings)
    if "device" in inspect.signature(factory).parameters:
        options.setdefault("device", device)
    elif device != "cpu":
        raise UsageError(f"{name} runs on the CPU only")
    return Plugin(factory(**options), options)


class Setup:
    """What is evaluated on: the dataset, the protocol, the reference rule, the chosen samples."""

    def __init__(self, dataset: str, protocol: EvalProtocol, refs_rule: str | None, limit: int | None) -> None:
        from refsr_bench.protocols.spec import REFERENCE_RULES
        from refsr_bench.store import open_dataset, resolve_dataset

        self.protocol = protocol
        self.dataset = open_dataset(resolve_dataset(dataset))
        self.records: tuple[Record, ...] = self.dataset.records[:limit]
        has_refs = any(record.refs for record in self.dataset.records)
        self.refs_rule = refs_rule or ("first" if has_refs else "none")
        if self.refs_rule not in REFERENCE_RULES:
            raise UsageError(
                f"there is no reference rule called {self.refs_rule!r}", did_you_mean(self.refs_rule, REFERENCE_RULES)
            )

    @property
    def task(self) -> Task:
        """The same for the evaluation of correspondences."""
        from refsr_bench.protocols.matching import Task

        return Task(self.dataset, self.records, self.protocol, self.refs_rule)

    def default_folder(self, label: str) -> Path:
        """Where a run of ``label`` goes unless told otherwise."""
        return Path("runs") / self.dataset.info.name / label / self.protocol.name / self.refs_rule

    def score(self, model: str, sr_path: Callable[[str], Path], reasons: dict[str, str]) -> list[Row]:
        """Rows of the pictures at ``sr_path(name)``; ``reasons`` explains the missing ones."""
        from refsr_bench.protocols.evaluate import score_all
        from refsr_bench.protocols.matching import score_visible
        from refsr_bench.protocols.spec import Metric, VisibleMetric, applies

        metrics = [metric for metric in _all_metrics() if isinstance(metric, Metric) and applies(metric, self.protocol)]
        visible = [metric for metric in _all_metrics() if isinstance(metric, VisibleMetric)]
        rows = []
        with show_progress("score", len(self.records)) as advance:
            for row in score_all(
                model, self.dataset, self.records, self.protocol, self.refs_rule, metrics, sr_path, reasons
            ):
                rows.append(row)
                advance(len(rows) // len(metrics))
        return rows + list(score_visible(model, self.task, visible, sr_path, reasons))

    def score_matches(self, card: ModelCard, run_dir: Path) -> list[Row]:
        """Rows of the correspondences in a run folder."""
        from refsr_bench.protocols.correspondence import MatchMetric
        from refsr_bench.protocols.evaluate import read_journal
        from refsr_bench.protocols.matching import MATCH_JOURNAL_NAME, score_matches

        metrics = [metric for metric in _all_metrics() if isinstance(metric, MatchMetric)]
        reasons = reasons_in(read_journal(run_dir, MATCH_JOURNAL_NAME))
        return list(score_matches(card, self.task, metrics, run_dir, reasons))

    def run_info(
        self, card: Any, options: dict[str, str], *, images: str, device: str | None, file_pattern: str = "{name}.png"
    ) -> RunInfo:
        """Description of a run that begins."""
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


def _all_metrics() -> list[Any]:
    from refsr_bench.lookup import find, list_entries

    return [find("metrics", name) for name in list_entries("metrics")]


def lower_is_better() -> frozenset[str]:
    """Names of the metrics of which less is better."""
    return frozenset(metric.name for metric in _all_metrics() if getattr(metric, "lower_is_better", False))


def reasons_in(attempts: dict[str, Attempt]) -> dict[str, str]:
    """Sample to reason, for those whose last attempt failed."""
    return {name: attempt.reason for name, attempt in attempts.items() if attempt.reason is not None}


def evaluate(plugin: Plugin, setup: Setup, run_dir: Path, *, overwrite: bool) -> tuple[RunInfo, list[Row]]:
    """Begin or resume a run, restore and match what is missing, score all of it, seal the run."""
    from refsr_bench.protocols.evaluate import JOURNAL_NAME, read_journal, restore_all
    from refsr_bench.protocols.matching import MATCH_JOURNAL_NAME
    from refsr_bench.protocols.run import finish_run, open_run

    card = plugin.card
    if not plugin.restores:
        require_truth(plugin, setup)
    run_info = describe(plugin, setup)
    with open_run(run_dir, run_info, overwrite=overwrite):
        rows = []
        if plugin.restores:
            with counted(f"{card.name} on {setup.dataset.info.id}", len(setup.records)) as on_item:
                restore_all(
                    plugin.made, setup.dataset, setup.records, setup.protocol, setup.refs_rule, run_dir, on_item
                )
            reasons = reasons_in(read_journal(run_dir))
            rows += setup.score(card.name, lambda name: run_dir / "sr" / f"{name}.png", reasons)
        if plugin.matches:
            rows += match_and_score(plugin, setup, run_dir)
        attempts = read_journal(run_dir, JOURNAL_NAME if plugin.restores else MATCH_JOURNAL_NAME)
        chosen = [attempts[record.name] for record in setup.records if record.name in attempts]
        return finish_run(run_dir, run_info, rows, chosen), rows


def describe(plugin: Plugin, setup: Setup, images: str = "sr") -> RunInfo:
    """`Setup.run_info` of a plug-in; ``images`` is where a model's pictures are."""
    from refsr_bench.protocols.matching import FLOW_FOLDER

    device = plugin.options.get("device", "cpu")
    if plugin.restores:
        return setup.run_info(plugin.card, plugin.options, images=images, device=device)
    return setup.run_info(plugin.card, plugin.options, images=FLOW_FOLDER, device=device, file_pattern="{name}.npz")


def require_truth(plugin: Plugin, setup: Setup) -> None:
    """`UsageError` if no sample's true correspondences are known: a matcher cannot be scored then."""
    if not setup.task.with_truth():
        raise UsageError(
            f"{setup.dataset.info.id} knows no true correspondences, so {plugin.card.name} cannot be scored on it",
            "make a set that does with: refsr-bench build transformed --of NAME",
        )


def match_and_score(plugin: Plugin, setup: Setup, run_dir: Path) -> list[Row]:
    """Match the samples with true correspondences and score them."""
    from refsr_bench.protocols.matching import match_all

    with counted(f"{plugin.card.name} matches", len(setup.task.with_truth())) as on_item:
        match_all(plugin.made, setup.task, run_dir, on_item)
    return setup.score_matches(plugin.card, run_dir)


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[Attempt | None], None]]:
    """A progress bar that moves by one an attempt."""
    with show_progress(label, total) as advance:
        done = iter(range(1, total + 1))
        yield lambda attempt: advance(next(done))


def report(run_dir: Path, finished: RunInfo, rows: list[Row], as_json: bool) -> None:
    """Print a run's table and folders; `ItemsFailed` if samples failed."""
    from refsr_bench.results.leaderboard import make_tables, to_json, to_markdown
    from refsr_bench.results.rows import Run

    tables = make_tables([Run(run_dir, tuple(rows))], lower_is_better())
    images = run_dir / finished.images
    if as_json:
        print_json(
            {
                "run_dir": str(run_dir),
                "images": str(images),
                "run": finished.model_dump(mode="json"),
                "tables": to_json(tables),
                "failed": failures(rows),
            }
        )
    else:
        what = "matches" if finished.file_pattern.endswith(".npz") else "restored images"
        click.echo(to_markdown(tables))
        click.echo(f"run folder: {run_dir}\n{what}: {images}")
    raise_failures(rows)


def failures(rows: list[Row]) -> dict[str, str | None]:
    """Sample to the reason of its first failed row."""
    return {row.sample: row.reason for row in reversed(rows) if row.status == "failed"}


def raise_failures(rows: list[Row]) -> None:
    """`ItemsFailed` that names the failed samples, if there are any."""
    failed = failures(rows)
    if failed:
        samples = len({row.sample for row in rows})
        listing = "".join(f"\n  {sample}: {reason}" for sample, reason in sorted(failed.items())[:20])
        raise ItemsFailed(f"{len(failed)} of {samples} samples failed:{listing}")
