"""The command line: parse, call one function, print.

Results go to standard output, progress and remarks to standard error. Every import that costs time stands inside the
command that needs it, so that ``--help`` and ``list`` answer at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from refsr_bench import __version__
from refsr_bench.errors import ItemsFailed, RefsrError, UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Attempt
    from refsr_bench.protocols.spec import Metric
    from refsr_bench.schema import Record, Row, RunInfo
    from refsr_bench.store import Dataset

LIST_KINDS = ("datasets", "models", "protocols", "metrics", "matchers", "providers")
Json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_EPILOG = (
    "Folders: REFSR_DATA_DIR (built datasets) and REFSR_MODEL_DIR (imported weights) override the user's data folder."
)


class Terminated(BaseException):
    """SIGTERM arrived; what is on disk is complete and the same command goes on from there."""


def main() -> NoReturn:
    """Entry point: run the command and end with the exit code that `refsr_bench.errors` lists."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        cli.main(prog_name="refsr-bench", standalone_mode=False)
        sys.exit(0)
    except RefsrError as error:
        click.echo(f"refsr-bench: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("refsr-bench: interrupted; finished work is kept, the same command goes on from there", err=True)
        sys.exit(130)
    except Terminated:
        click.echo("refsr-bench: terminated; finished work is kept, the same command goes on from there", err=True)
        sys.exit(143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"refsr-bench: {error.filename or 'the file system'}: {error.strerror or error}", err=True)
        sys.exit(1)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar with ETA on standard error; gives a function that sets how much is done."""
    from tqdm import tqdm

    quiet = bool(os.environ.get("REFSR_NO_PROGRESS"))
    # In a log file, a line every half minute; nothing for work that is done by then.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=total, desc=label, file=sys.stderr, mininterval=interval, delay=interval, disable=quiet, leave=False
    ) as bar:

        def advance(done: float) -> None:
            bar.update(done - bar.n)

        yield advance


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="refsr-bench")
def cli() -> None:
    """Benchmark and dataset toolkit for reference-based super-resolution.

    \b
    Examples:
      refsr-bench build demo
      refsr-bench eval bicubic --dataset demo
    """


# --- what there is -----------------------------------------------------------------------------------------------


@cli.command("list")
@click.argument("kind", type=click.Choice(LIST_KINDS), required=False)
@Json
def list_command(kind: str | None, as_json: bool) -> None:
    """List the known datasets, models, protocols, metrics and plug-ins, of one KIND or all.

    \b
    Examples:
      refsr-bench list
      refsr-bench list models --json
    """
    kinds = [kind] if kind else list(LIST_KINDS)
    tables = {each: _listing(each) for each in kinds}
    if as_json:
        _print_json(tables)
        return
    for each, entries in tables.items():
        if not entries and not kind:
            continue
        click.echo(f"{each}:")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            click.echo(f"  {entry['name']:<{width}}  {entry['summary']}{entry.get('state', '')}")


def _listing(kind: str) -> list[dict[str, str]]:
    from refsr_bench.lookup import KINDS, list_entries

    if kind not in KINDS:  # protocols are not plug-ins: a preset is a published fact
        from refsr_bench.protocols.spec import PRESETS, protocol_summary

        return [{"name": name, "summary": protocol_summary(protocol)} for name, protocol in PRESETS.items()]
    entries = [{"name": name, "summary": entry.summary} for name, entry in list_entries(kind).items()]
    return [_with_build_state(entry) for entry in entries] if kind == "datasets" else entries


def _with_build_state(entry: dict[str, str]) -> dict[str, str]:
    from refsr_bench.store import INFO_NAME, data_dir, read_info

    folder = data_dir() / entry["name"]
    if entry["name"] == "custom" or not (folder / INFO_NAME).is_file():
        return entry
    return {**entry, "state": f"  [built: {read_info(folder).id}, {folder}]"}


@cli.command()
@click.argument("name")
@Json
def info(name: str, as_json: bool) -> None:
    """Show the card of a model, or of a built dataset given by NAME or folder.

    \b
    Examples:
      refsr-bench info c2matching
      refsr-bench info demo --json
    """
    from refsr_bench.lookup import BUILT_IN, find, list_entries
    from refsr_bench.store import open_dataset, resolve_dataset

    if name in list_entries("models"):
        factory = find("models", name)
        card = getattr(sys.modules[factory.__module__], "CARDS", {}).get(name)
        if card is None:
            raise UsageError(f"the model {name!r} has no card")
        values = card.model_dump(mode="json", exclude_defaults=True)
    elif name in BUILT_IN["datasets"] or Path(name).is_dir():
        dataset = open_dataset(resolve_dataset(name))
        values = {"id": dataset.info.id, "folder": str(dataset.root), **dataset.info.model_dump(mode="json")}
    else:
        known = [*list_entries("models"), *list_entries("datasets")]
        raise UsageError(f"there is no model or dataset called {name!r}", did_you_mean(name, known))
    if as_json:
        _print_json(values)
        return
    for key, value in values.items():
        click.echo(f"{key.replace('_', ' ')}: {value}")


@cli.command()
@click.argument("signature")
@Json
def explain(signature: str, as_json: bool) -> None:
    """Say in plain words what a number's SIGNATURE means.

    \b
    Examples:
      refsr-bench explain "psnr_y|crop:4|ch:y601studio"
      refsr-bench explain "ssim_y|data:demo@1f3c9a|n:21|ref:first" --json
    """
    from refsr_bench.lookup import list_entries
    from refsr_bench.protocols.spec import explain_signature
    from refsr_bench.signature import parse_signature

    titles = {name: entry.summary for name, entry in list_entries("metrics").items()}
    parts = explain_signature(parse_signature(signature), titles)
    if as_json:
        _print_json([{"part": part, "meaning": meaning} for part, meaning in parts])
        return
    width = max(len(part) for part, _ in parts)
    for part, meaning in parts:
        click.echo(f"{part:<{width}}  {meaning}")


# --- datasets ----------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Dataset folder to make  [default: in the data folder]")
@click.option("--force", is_flag=True, help="Build again even if the dataset is there.")
@Json
def build(name: str, source: Path | None, out: Path | None, force: bool, as_json: bool) -> None:
    """Build the dataset NAME; "custom" is made from the photographs in the folder SOURCE.

    SOURCE holds photographs of one scene (each one once as input, all others as its references), or the sub-folders
    input/ and ref/ with files matched by name (ref/NAME.*, ref/NAME_ref.* or ref/NAME_1.* to NAME_5.*).

    \b
    Examples:
      refsr-bench build demo
      refsr-bench build custom ~/photos/cathedral --out ~/refsr/cathedral
    """
    from refsr_bench.lookup import find
    from refsr_bench.store import INFO_NAME, data_dir, open_dataset, verify_dataset

    build_dataset = find("datasets", name)
    if name == "custom" and source is None:
        raise UsageError("custom needs a folder of photographs", "refsr-bench build custom DIR")
    target = out or data_dir() / (source.resolve().name if source is not None else name)
    present = (target / INFO_NAME).is_file()
    if target.exists() and not present and any(target.iterdir()):
        raise UsageError(f"{target}: holds other files, no dataset is built over them", "choose another --out")
    if present and not force and _is_outdated(build_dataset, target):
        _note(f"{target} was built by another version of the builder; building it again")
        force = True
    if present and not force:
        dataset = open_dataset(target)
        if problems := verify_dataset(dataset):
            _fail_verification(dataset, problems)
        _note(f"{target} is already built and verifies; --force builds it again")
    else:
        with _progress(f"build {name}", 1) as advance:
            build_dataset(source, target, progress=lambda done, total: advance(done / total), note=_note)
        dataset = open_dataset(target)
    _print_dataset(dataset, as_json)


def _is_outdated(build_dataset: Any, target: Path) -> bool:
    from refsr_bench.store import read_info

    current = getattr(sys.modules[build_dataset.__module__], "BUILDER_VERSION", None)
    return current is not None and read_info(target).builder_version != current


def _print_dataset(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        _print_json({"folder": str(dataset.root), "id": dataset.info.id, **dataset.info.model_dump(mode="json")})
        return
    groups = ", ".join(f"{count} {group}" for group, count in dataset.info.groups.items())
    click.echo(f"{dataset.info.id}: {dataset.info.samples} samples ({groups}) in {dataset.root}")


@cli.command()
@click.argument("dataset")
@Json
def verify(dataset: str, as_json: bool) -> None:
    """Re-hash and decode every file of a built DATASET (name or folder); exit 4 names what is wrong.

    \b
    Examples:
      refsr-bench verify demo
      refsr-bench verify ~/refsr/cathedral --json
    """
    from refsr_bench.store import open_dataset, resolve_dataset, verify_dataset

    opened = open_dataset(resolve_dataset(dataset))
    problems = verify_dataset(opened)
    if as_json:
        _print_json({"id": opened.info.id, "ok": not problems, "problems": [p._asdict() for p in problems]})
    if problems:
        _fail_verification(opened, problems)
    if not as_json:
        click.echo(f"{opened.info.id}: {opened.info.samples} samples verified in {opened.root}")


def _fail_verification(dataset: Dataset, problems: list[Any]) -> NoReturn:
    from refsr_bench.errors import IntegrityError

    listing = "".join(f"\n  {problem.path}: {problem.problem}" for problem in problems[:20])
    raise IntegrityError(
        f"{dataset.root} does not verify, {len(problems)} problem(s):{listing}", "build it again with --force"
    )


# --- evaluation --------------------------------------------------------------------------------------------------

_DATASET = click.option("--dataset", required=True, metavar="NAME|DIR", help="A built dataset.")
_PROTOCOL = click.option("--protocol", default="c2-2021", show_default=True, metavar="NAME", help="How to score.")
_REFS = click.option("--refs", "refs_rule", metavar="RULE", help="first, none or levelK  [default: first, if any]")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
_OUT = click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/DATASET/MODEL/...]")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace another run that is in the run folder.")


@cli.command("eval")
@click.argument("model_name", metavar="MODEL")
@_DATASET
@_PROTOCOL
@_REFS
@_LIMIT
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:N.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A model option, e.g. weights=DIR.")
@_OUT
@_OVERWRITE
@Json
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
        with _progress(f"{model.card.name} on {setup.dataset.info.id}", len(setup.records)) as advance:
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


@cli.command()
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
@Json
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
        with _progress("score", len(self.records)) as advance:
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
    from refsr_bench.results.leaderboard import make_tables, to_json, to_markdown
    from refsr_bench.results.rows import Run

    tables = make_tables([Run(run_dir, tuple(rows))])
    failed = {row.sample: row.reason for row in rows if row.status == "failed"}
    if as_json:
        _print_json(
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
        listing = "".join(f"\n  {sample}: {reason}" for sample, reason in list(failed.items())[:20])
        raise ItemsFailed(f"{len(failed)} of {finished.samples} samples failed:{listing}")


@cli.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@Json
def leaderboard(runs: tuple[Path, ...], as_json: bool) -> None:
    """Print the means of all runs in or below the folders RUNS (default: runs) as Markdown tables.

    Numbers with different signatures are never in one column.

    \b
    Examples:
      refsr-bench leaderboard
      refsr-bench leaderboard runs/demo other-machine/runs --json
    """
    from refsr_bench.results.leaderboard import make_tables, to_json, to_markdown
    from refsr_bench.results.rows import find_runs

    tables = make_tables(find_runs(runs or (Path("runs"),)))
    if as_json:
        _print_json(to_json(tables))
    else:
        click.echo(to_markdown(tables))


# --- weights -----------------------------------------------------------------------------------------------------


@cli.group()
def weights() -> None:
    """Import published weight files, list them, check them."""


@weights.command("import")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="[ROLE=]FILE...")
@Json
def import_command(model: str, files: tuple[str, ...], as_json: bool) -> None:
    """Check weight FILES of MODEL key by key and store them, as tensors only, in the model folder.

    \b
    Examples:
      refsr-bench weights import c2matching feature_extraction.pth vgg19-dcbb9e9d.pth
      refsr-bench weights import c2matching restoration-gan=my_network.pth
    """
    from refsr_bench.models.weights import import_weights
    from refsr_bench.store import model_dir

    imported = import_weights(model, files)
    if as_json:
        _print_json([weight.model_dump(mode="json") for weight in imported])
        return
    for weight in imported:
        click.echo(f"{weight.role}: {weight.architecture} from {weight.source_file} ({weight.source_sha256[:12]})")
    click.echo(f"stored in {model_dir() / model}")


@weights.command("list")
@Json
def list_weights_command(as_json: bool) -> None:
    """List the imported weight files.

    \b
    Examples:
      refsr-bench weights list
      refsr-bench weights list --json
    """
    from refsr_bench.models.weights import list_weights

    found = list_weights()
    if as_json:
        _print_json([{"path": str(path), **weight.model_dump(mode="json")} for path, weight in found])
        return
    for path, weight in found:
        click.echo(f"{path}: {weight.architecture}, {weight.convention}, from {weight.source_file}; {weight.licence}")
    if not found:
        click.echo("no weights are imported")


@weights.command("verify")
@Json
def verify_weights_command(as_json: bool) -> None:
    """Re-hash every imported weight file; exit 4 names what has changed.

    \b
    Examples:
      refsr-bench weights verify
      refsr-bench weights verify --json
    """
    from refsr_bench.errors import IntegrityError
    from refsr_bench.models.weights import verify_weights

    checked = verify_weights()
    if as_json:
        _print_json([{"path": str(path), "problem": problem} for path, problem in checked])
    problems = [problem for _, problem in checked if problem is not None]
    if problems:
        raise IntegrityError("\n  ".join([f"{len(problems)} imported weight file(s) do not verify:", *problems]))
    if not as_json:
        click.echo(f"{len(checked)} weight files verified")
