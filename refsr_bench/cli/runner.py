"""Evaluation from names to rows, shared by every command that evaluates.

Where an option belongs: one that changes what a model does goes into ``asked`` of `load_plugin`; one that chooses
samples or references into `open_tasks`; one that changes what is done with a run folder into `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refsr_bench.cli.output import note, parse_settings, show_progress
from refsr_bench.errors import IntegrityError, RefsrError, UsageError, did_you_mean
from refsr_bench.schema import ModelCard

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Attempt, Shard, Target, Task
    from refsr_bench.protocols.spec import EvalProtocol, Metric
    from refsr_bench.schema import Record, Row, RunInfo
    from refsr_bench.store import Dataset

DEFAULT_OPTIONS = {"device": "cpu", "precision": "fp32", "memory_budget": "auto", "allow_inexact_tiles": "no"}
"""Options that every command offers, and the values that a model which does not know them has anyway."""


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
    from refsr_bench.models.zoo import PUBLISHED_ONLY

    models, matchers = list_entries("models"), list_entries("matchers")
    if name not in models and name not in matchers:
        if name in PUBLISHED_ONLY:
            raise UsageError(f"{name} cannot run: {PUBLISHED_ONLY[name]}", "refsr-bench published --table 1")
        raise UsageError(f"there is no model or matcher called {name!r}", did_you_mean(name, [*models, *matchers]))
    return find("models" if name in models else "matchers", name)


def settings_of(name: str, factory: Any, settings: Sequence[str]) -> dict[str, str]:
    """``--set`` options for a factory, which may be a stranger's; `UsageError` if it is none."""
    if not callable(factory):
        raise UsageError(f"{name} is no function that makes a model but a {type(factory).__name__}")
    return parse_settings(name, factory, settings)


def call_factory(name: str, factory: Any, options: Mapping[str, str]) -> Any:
    """Make a model; whatever a stranger's factory raises is a `UsageError`, built-in ones raise as they are."""
    from refsr_bench.lookup import BUILT_IN

    try:
        return factory(**options)
    except RefsrError:
        raise
    except Exception as error:
        if name in BUILT_IN["models"] or name in BUILT_IN["matchers"]:
            raise
        raise UsageError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def load_plugin(name: str, settings: Sequence[str], asked: Mapping[str, str]) -> Plugin:
    """Make a model or matcher with its ``--set`` options and those of ``asked`` (`DEFAULT_OPTIONS`) that it knows.

    `UsageError` if something else than the default is asked for that it does not know.
    """
    import inspect

    from refsr_bench.lookup import list_entries

    factory = find_factory(name)
    options = settings_of(name, factory, settings)
    known = inspect.signature(factory).parameters
    for key, value in asked.items():
        if key in known:
            options.setdefault(key, value)
        elif value != DEFAULT_OPTIONS[key]:
            raise UsageError(f"{name} knows no other {key} than {DEFAULT_OPTIONS[key]}")
    plugin = Plugin(call_factory(name, factory, options), options)
    if not isinstance(getattr(plugin.made, "card", None), ModelCard):
        raise UsageError(f"what {name} makes has no attribute card that is a refsr_bench.schema.ModelCard")
    if plugin.card.name != name and plugin.card.name in list_entries("models"):
        note(f"{name} has no weights here: {plugin.card.name} runs instead (refsr-bench info {name})")
    return plugin


def open_tasks(
    dataset: str,
    protocols: Sequence[EvalProtocol],
    refs_rule: str | None,
    limit: int | None,
    *,
    lr: str = "protocol",
    subset: str | None = None,
    allow_modified: bool = False,
) -> list[Task]:
    """The chosen samples of a built dataset under every protocol and every reference rule.

    lr : "protocol" or "shipped".
    subset : one of `refsr_bench.protocols.subsets.SUBSETS`.
    allow_modified : take a dataset that no longer verifies as it is; its identity then says so.
    """
    from refsr_bench.protocols.evaluate import Task
    from refsr_bench.protocols.references import find_rules
    from refsr_bench.protocols.subsets import select_subset
    from refsr_bench.store import open_dataset, resolve_dataset

    opened = open_dataset(resolve_dataset(dataset))
    opened = accept_dataset(opened, opened.records[: None if subset else limit], allow_modified)
    called, records = (None, opened.records) if subset is None else select_subset(opened, subset)
    records = _with_hr(records)[:limit]
    rules = find_rules(refs_rule or ("first" if any(record.refs for record in records) else "none"), records)
    source = _lr_source(lr, records)
    return [Task(opened, records, protocol, rule, source, called) for rule in rules for protocol in protocols]


def accept_dataset(dataset: Dataset, records: Sequence[Record], allow_modified: bool) -> Dataset:
    """The dataset if the files of ``records`` verify; changed and called so if that is allowed, else refused."""
    from refsr_bench.verification import accept_modified, check_files, list_problems

    with show_progress("verify", 1) as advance:
        problems = check_files(dataset.root, records, progress=lambda done, total: advance(done / total))
    if not problems:
        return dataset
    text = f"{dataset.root} no longer verifies, {len(problems)} problem(s):{list_problems(problems)}"
    if not allow_modified:
        raise IntegrityError(text, "build it again with --force, or add --allow-modified, which the signature will say")
    note(text)
    return accept_modified(dataset)


def _with_hr(records: Sequence[Record]) -> tuple[Record, ...]:
    chosen = tuple(record for record in records if record.hr is not None)
    if len(chosen) < len(records):
        note(f"{len(records) - len(chosen)} of {len(records)} samples have no HR picture and are not scored")
    if not chosen:
        raise UsageError("no sample has an HR picture to score against")
    return chosen


def _lr_source(lr: str, records: Sequence[Record]) -> str:
    """``lr`` as a task and its signature call it: with the kernel that made the shipped LR pictures."""
    if lr == "protocol":
        return lr
    kernels = {record.lr.kernel for record in records if record.lr is not None}
    if len(kernels) != 1:
        made = f"LR pictures by different kernels: {', '.join(sorted(kernels))}" if kernels else "no LR pictures"
        raise UsageError(f"the dataset ships {made}", "--lr protocol makes them as the protocol says")
    return f"shipped.{kernels.pop()}"


def default_folder(task: Task, label: str) -> Path:
    """Where a run of ``label`` goes unless told otherwise; `UsageError` if the label would lead elsewhere."""
    if Path(label).name != label or label == "..":
        raise UsageError(f"{label!r} cannot name a folder of runs", "choose another name, or the folder with --out")
    how = "+".join(part for part in (task.refs_rule, task.lr, task.subset) if part not in (None, "protocol"))
    return Path("runs") / task.dataset.info.name / label / task.protocol.name / how


def describe_run(
    task: Task,
    card: ModelCard,
    options: Mapping[str, str],
    *,
    images: str,
    device: str | None,
    file_pattern: str = "{name}.png",
) -> RunInfo:
    """What ``run.json`` says of a run that begins."""
    from refsr_bench.protocols.run import library_versions
    from refsr_bench.schema import RunInfo

    return RunInfo(
        status="running",
        model=card,
        options=dict(options),
        dataset=task.dataset.info.id,
        manifest_sha256=task.dataset.info.manifest_sha256,
        protocol=task.protocol.model_dump(),
        refs_rule=task.refs_rule,
        lr=task.lr,
        subset=task.subset,
        samples=len(task.records),
        images=images,
        file_pattern=file_pattern,
        device=device,
        versions=library_versions(),
    )


class Finished(NamedTuple):
    """A sealed run."""

    target: Target
    info: RunInfo
    rows: list[Row]


def evaluate(plugin: Plugin, targets: Sequence[Target], *, overwrite: bool) -> list[Finished]:
    """Begin or resume the runs of one model on the same samples, restore and match what is missing, score, seal."""
    with begun(plugin, targets, overwrite=overwrite) as infos:
        make_missing(plugin, targets, infos)
        return [score_run(target, info) for target, info in zip(targets, infos, strict=True)]


@contextmanager
def begun(
    plugin: Plugin, targets: Sequence[Target], *, overwrite: bool = False, shard: Shard | None = None
) -> Iterator[list[RunInfo]]:
    """Hold the run folders of one model, or a shard of each; gives what is to be made in them.

    Correspondences of a model that also restores belong to the first run of every reference rule only: they hardly
    depend on the protocol and cost as much as restoring.
    """
    from refsr_bench.models.cost import count_multiply_adds
    from refsr_bench.protocols.evaluate import ALL
    from refsr_bench.protocols.matching import FLOW_FOLDER
    from refsr_bench.protocols.run import open_run, scored_already

    if not plugin.restores:
        require_truth(plugin.card, targets[0].task)
    what = {"images": "sr"} if plugin.restores else {"images": FLOW_FOLDER, "file_pattern": "{name}.npz"}
    device = plugin.options.get("device", "cpu")
    multiply_adds = count_multiply_adds(plugin.made) if plugin.restores else None
    infos: list[RunInfo] = []
    with ExitStack() as runs:
        for target in targets:
            visible = plugin.matches or knows_transforms(target.task)
            restored = ["pictures", *(["visible"] if visible else [])] if plugin.restores else []
            new_rule = target.task.refs_rule not in {info.refs_rule for info in infos}
            matched = ["matches"] if plugin.matches and (new_rule or not plugin.restores) else []
            info = describe_run(target.task, plugin.card, plugin.options, device=device, **what)
            scored = (*restored, *matched)
            if not overwrite:
                scored = tuple(dict.fromkeys((*scored, *scored_already(target.run_dir, info))))
            infos.append(info.model_copy(update={"scored": scored, "multiply_adds": multiply_adds}))
            runs.enter_context(open_run(target.run_dir, infos[-1], overwrite=overwrite, shard=shard or ALL))
        yield infos


def make_missing(
    plugin: Plugin, targets: Sequence[Target], infos: Sequence[RunInfo], shard: Shard | None = None
) -> None:
    """First pass: pictures and matches of the runs, or of a shard of them, that are not there yet."""
    from refsr_bench.protocols.evaluate import ALL, restore_all
    from refsr_bench.protocols.matching import match_all, with_truth

    part, first, name = shard or ALL, targets[0].task, plugin.card.name
    if "pictures" in infos[0].scored:
        with counted(f"{name} on {first.dataset.info.id}", len(part.pick(first.records))) as on_item:
            restore_all(plugin.made, targets, on_item, part)
    for target, info in zip(targets, infos, strict=True):
        if "matches" in info.scored:
            with counted(f"{name} matches", len(part.pick(with_truth(target.task)))) as on_item:
                match_all(plugin.made, target.task, target.run_dir, on_item, part)


def score_run(target: Target, info: RunInfo) -> Finished:
    """Second pass: score what is in the run folder, and seal it."""
    from refsr_bench.protocols.evaluate import read_journal
    from refsr_bench.protocols.matching import MATCH_JOURNAL_NAME, score_matches
    from refsr_bench.protocols.run import finish_run

    card = info.model
    task = target.task._replace(model_keys=card.signature_keys)
    attempts = read_journal(target.run_dir)
    rows = []
    if "pictures" in info.scored:
        visible = "visible" in info.scored
        rows += score_pictures(task, card.name, target.picture, _reasons(attempts), visible=visible)
    if "matches" in info.scored:
        matched = read_journal(target.run_dir, MATCH_JOURNAL_NAME)
        rows += score_matches(card, task, _metrics("matches", task.protocol), target.run_dir, _reasons(matched))
        attempts = attempts or matched
    chosen = [attempts[record.name] for record in task.records if record.name in attempts]
    return Finished(target, finish_run(target.run_dir, info, rows, chosen), rows)


def score_pictures(
    task: Task, model: str, sr_path: Callable[[str], Path], reasons: Mapping[str, str], *, visible: bool = False
) -> list[Row]:
    """Rows of the pictures at ``sr_path(name)``; ``reasons`` explains the missing ones.

    visible : also over the pixels that the reference shows, where the dataset knows them.
    """
    from refsr_bench.protocols.evaluate import score_all
    from refsr_bench.protocols.matching import score_visible

    metrics = _metrics("pictures", task.protocol)
    rows = []
    with show_progress("score", len(task.records)) as advance:
        for row in score_all(model, task, metrics, sr_path, reasons):
            rows.append(row)
            advance(len(rows) // len(metrics))
    if visible:
        rows += score_visible(model, task, _metrics("visible", task.protocol), sr_path, reasons)
    return rows


def _metrics(on: str, protocol: EvalProtocol) -> list[Metric]:
    from refsr_bench.lookup import find, list_entries
    from refsr_bench.protocols.spec import applies

    every: list[Metric] = [find("metrics", name) for name in list_entries("metrics")]
    return [metric for metric in every if metric.on == on and applies(metric, protocol)]


def require_truth(card: ModelCard, task: Task) -> None:
    """`UsageError` if no sample's true correspondences are known: a matcher cannot be scored then."""
    from refsr_bench.protocols.matching import with_truth

    if not with_truth(task):
        raise UsageError(
            f"{task.dataset.info.id} knows no true correspondences, so {card.name} cannot be scored on it",
            "make a set that does with: refsr-bench build transformed --of NAME",
        )


def knows_transforms(task: Task) -> bool:
    """Whether the references are rotated or scaled HR pictures: then scores over visible pixels go with the others."""
    from refsr_bench.schema import TransformGroup

    return any(TransformGroup.parse(record.group) for record in task.records)


def _reasons(attempts: Mapping[str, Attempt]) -> dict[str, str]:
    return {name: attempt.reason for name, attempt in attempts.items() if attempt.reason is not None}


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[Attempt | None], None]]:
    """A progress bar that moves by one an attempt."""
    with show_progress(label, total) as advance:
        done = iter(range(1, total + 1))
        yield lambda attempt: advance(next(done))
