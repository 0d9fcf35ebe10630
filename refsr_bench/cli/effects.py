"""``eval --protocol all``: one model under many protocols, and what each of their choices is worth."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from refsr_bench.cli.output import print_json
from refsr_bench.cli.runner import (
    Plugin,
    Setup,
    counted,
    describe,
    evaluate,
    match_and_score,
    raise_failures,
    reasons_in,
)

if TYPE_CHECKING:
    from refsr_bench.protocols.shared import Target
    from refsr_bench.schema import Row, RunInfo


class Scored(NamedTuple):
    """A finished run under one protocol."""

    setup: Setup
    run_dir: Path
    rows: list[Row]


def evaluate_all(plugin: Plugin, setups: list[Setup], out: Path | None, *, overwrite: bool) -> list[Scored]:
    """Evaluate under every setup's protocol; a model is called once for each distinct input.

    Every protocol gets an ordinary run folder, below ``out`` if that is given. Correspondences of a model that also
    restores are scored under the first protocol only.
    """
    label = plugin.card.name
    folders = [s.default_folder(label) if out is None else out / s.protocol.name / s.refs_rule for s in setups]
    if not plugin.restores:
        return [
            Scored(setup, folder, evaluate(plugin, setup, folder, overwrite=overwrite)[1])
            for setup, folder in zip(setups, folders, strict=True)
        ]
    return _restore_then_score(plugin, setups, folders, overwrite=overwrite)


def _restore_then_score(plugin: Plugin, setups: list[Setup], folders: list[Path], *, overwrite: bool) -> list[Scored]:
    from refsr_bench.protocols.run import open_run
    from refsr_bench.protocols.shared import Target, group_by_pictures, restore_shared

    targets = [Target(setup.task, folder) for setup, folder in zip(setups, folders, strict=True)]
    makers = group_by_pictures(targets)
    infos = [
        describe(plugin, setup, os.path.relpath(makers[folder].run_dir / "sr", folder))
        for setup, folder in zip(setups, folders, strict=True)
    ]
    with ExitStack() as runs:
        for folder, info in zip(folders, infos, strict=True):
            runs.enter_context(open_run(folder, info, overwrite=overwrite))
        making = list(dict.fromkeys(makers.values()))
        with counted(f"{plugin.card.name} on {setups[0].dataset.info.id}", len(setups[0].records)) as on_item:
            restore_shared(plugin.made, making, on_item)
        return [
            _score_one(plugin, setup, folder, info, makers[folder], with_matches=setup is setups[0])
            for setup, folder, info in zip(setups, folders, infos, strict=True)
        ]


def _score_one(
    plugin: Plugin, setup: Setup, folder: Path, info: RunInfo, maker: Target, *, with_matches: bool
) -> Scored:
    from refsr_bench.protocols.evaluate import read_journal
    from refsr_bench.protocols.run import finish_run

    attempts = read_journal(maker.run_dir)
    rows = setup.score(plugin.card.name, lambda name: maker.run_dir / "sr" / f"{name}.png", reasons_in(attempts))
    if plugin.matches and with_matches:
        rows += match_and_score(plugin, setup, folder)
    own = [attempts[r.name] for r in setup.records if r.name in attempts] if maker.run_dir == folder else []
    finish_run(folder, info, rows, own)
    return Scored(setup, folder, rows)


def report_effects(scored: list[Scored], as_json: bool) -> None:
    """Print each protocol's scores and their differences to the first one's; `ItemsFailed` if samples failed."""
    from refsr_bench.protocols.spec import choices
    from refsr_bench.results.effects import Measured, protocol_effects, to_markdown

    base = choices(scored[0].setup.protocol)
    measured = []
    for each in scored:
        own = choices(each.setup.protocol)
        changed = ", ".join(f"{key}:{value}" for key, value in own.items() if value != base[key])
        measured.append(Measured(each.setup.protocol.name, changed, tuple(each.rows)))
    effects = protocol_effects(measured)
    if as_json:
        print_json(
            {
                "effects": [effect._asdict() for effect in effects],
                "runs": {each.setup.protocol.name: str(each.run_dir) for each in scored},
            }
        )
    else:
        click.echo(to_markdown(scored[0].setup.dataset.info.id, scored[0].rows[0].model, effects))
        for each in scored:
            click.echo(f"{each.setup.protocol.name}: {each.run_dir}")
    for each in scored:
        raise_failures(each.rows)
