"""One evaluation by several processes: shards, ``torchrun``, and ``merge``.

All of them work in one run folder, each on samples of its own; what a run is made of (pictures, matches, journals) is
the same however the samples were divided, so the rows are too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from refsr_bench.cli.output import json_option, note, print_json
from refsr_bench.errors import ItemsFailed, UsageError, first_few

if TYPE_CHECKING:
    from refsr_bench.cli.runner import Finished, Plugin
    from refsr_bench.protocols.evaluate import Shard, Target
    from refsr_bench.schema import RunInfo


class Rank(NamedTuple):
    """Which of the processes that ``torchrun`` started this one is."""

    number: int
    total: int
    local: int

    def own_device(self, device: str) -> str:
        """``cuda`` as this process's own GPU of the machine."""
        return f"cuda:{self.local}" if device == "cuda" else device


def current_rank() -> Rank | None:
    """This process's rank; None if it works alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        return None
    return Rank(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))


def parse_shard(context: click.Context, option: click.Parameter, value: str | None) -> Shard | None:
    """``i/n`` of ``--shard``; shards count from 1."""
    from refsr_bench.protocols.evaluate import Shard

    if value is None:
        return None
    number, _, count = value.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise click.BadParameter(f"{value!r} is not I/N with I from 1 to N, for example 1/4 to 4/4")
    return Shard(int(number), int(count))


def evaluate_shard(plugin: Plugin, targets: Sequence[Target], shard: Shard, as_json: bool) -> None:
    """Make one shard's pictures and matches, and say how to go on; `ItemsFailed` if samples of it failed."""
    from refsr_bench.cli.runner import begun, make_missing
    from refsr_bench.protocols.evaluate import read_journal

    with begun(plugin, targets, shard=shard) as infos:
        make_missing(plugin, targets, infos, shard)
    own = [record.name for record in shard.pick(targets[0].task.records)]
    attempts = [read_journal(target.run_dir) for target in targets]
    failed = {name: a[name].reason for a in attempts for name in own if name in a and a[name].reason}
    folders = [str(target.run_dir) for target in targets]
    if as_json:
        print_json({"shard": f"{shard.number}/{shard.total}", "samples": own, "failed": failed, "run_dirs": folders})
    else:
        click.echo(f"shard {shard.number} of {shard.total}: {len(own)} samples, {len(failed)} failed")
        click.echo(f"when all shards are done: refsr-bench merge {' '.join(folders)}")
    if failed:
        raise ItemsFailed("\n  ".join(f"{name}: {reason}" for name, reason in failed.items()))


def evaluate_ranked(plugin: Plugin, targets: Sequence[Target], rank: Rank, *, overwrite: bool) -> list[Finished]:
    """Do this process's part of the runs; the first process scores and seals them once all are done.

    Gives the sealed runs in the first process and nothing in the others.
    """
    from refsr_bench.cli.runner import begun, make_missing, score_run
    from refsr_bench.models.ranks import process_group
    from refsr_bench.protocols.evaluate import Shard

    shard = Shard(rank.number + 1, rank.total)
    first = rank.number == 0
    with process_group(rank.own_device(plugin.options.get("device", "cpu"))) as wait_for_all:
        if first:
            with begun(plugin, targets, overwrite=overwrite):
                pass  # new, or the same run resumed; only one process may clear what is there
        wait_for_all()
        with begun(plugin, targets, shard=shard) as infos:
            make_missing(plugin, targets, infos, shard)
        wait_for_all()
    if not first:
        return []
    with begun(plugin, targets) as infos:
        return [score_run(target, info) for target, info in zip(targets, infos, strict=True)]


@click.command()
@click.argument("folders", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder of the whole, for parts made in other places.")
@click.option("--dataset", metavar="NAME|DIR", help="The built dataset  [default: the one of that name]")
@json_option
def merge(folders: tuple[Path, ...], out: Path | None, dataset: str | None, as_json: bool) -> None:
    """Score and seal runs whose samples were divided with eval --shard.

    Shards that shared a run folder: give that folder (or one that holds several). Parts made on several machines: give
    every copy of the run folder, and --out for the whole. The rows are the same bytes that one process would have
    written.

    \b
    Examples:
      refsr-bench merge runs/cufed5/c2matching/c2-2021/first
      refsr-bench merge machine1/run machine2/run --out runs/whole
    """
    from refsr_bench.cli.reporting import report
    from refsr_bench.cli.runner import score_run
    from refsr_bench.protocols.matching import FLOW_FOLDER
    from refsr_bench.protocols.run import gather, open_run, read_info

    places = _run_folders(folders)
    whole = [out] if out else places
    finished = []
    for run_dir in whole:
        info = read_info(places[0] if out else run_dir).model_copy(update=_UNSEALED)
        if info.images not in ("sr", FLOW_FOLDER):
            note(f"{run_dir}: pictures made elsewhere, nothing to merge")
            continue
        target = _target(run_dir, info, dataset)
        if not out:
            _require_all(target, info)
        with open_run(run_dir, info, overwrite=False):
            for part in places if out else ():
                if part.resolve() != run_dir.resolve():
                    gather(part, run_dir, info)
            _require_all(target, info)
            finished.append(score_run(target, info))
    if not finished:
        raise UsageError(f"{', '.join(map(str, folders))}: nothing to merge", "give folders that eval has worked on")
    report(finished, as_json)


def _require_all(target: Target, info: RunInfo) -> None:
    """`UsageError` if some samples of the run have been neither done nor tried."""
    from refsr_bench.protocols.run import unfinished

    if missing := unfinished(target, info):
        raise UsageError(
            f"{target.run_dir}: {len(missing)} of {info.samples} samples are not done: "
            f"{', '.join(first_few(missing, 10))}",
            "run the shards that are missing, or the same eval without --shard, which does the rest",
        )


_UNSEALED: dict[str, Any] = {"status": "running", "rows_sha256": None, "row_digests": None, "signatures": {}}


def _run_folders(places: Sequence[Path]) -> list[Path]:
    found = sorted({file.parent for place in places for file in place.rglob("run.json")})
    if not found:
        raise UsageError(f"there are no runs in {', '.join(map(str, places))}", "give folders that eval has worked on")
    return found


def _target(run_dir: Path, info: RunInfo, dataset: str | None) -> Target:
    """The samples of a run, as its ``run.json`` describes them."""
    from refsr_bench.cli.runner import open_tasks
    from refsr_bench.protocols.evaluate import Target
    from refsr_bench.protocols.spec import PROTOCOL_LR, EvalProtocol

    [task] = open_tasks(
        dataset or info.dataset.partition("@")[0],
        [EvalProtocol.model_validate(info.protocol)],
        info.refs_rule,
        info.samples,
        lr="protocol" if info.lr == PROTOCOL_LR else "shipped",
        subset=info.subset and info.subset.partition("@")[0],
        allow_modified="+modified" in info.dataset,
    )
    if task.dataset.info.manifest_sha256 != info.manifest_sha256:
        raise UsageError(
            f"{task.dataset.root} is {task.dataset.info.id}, and the run was made on {info.dataset}",
            "name the dataset of the run with --dataset",
        )
    return Target(task, run_dir)
