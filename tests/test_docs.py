"""Documentation that cannot go stale: the command reference, examples in help, links and names in the pages."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from refsr_bench.cli import cli
from refsr_bench.lookup import KINDS, list_entries
from refsr_bench.protocols.spec import PRESETS, SIGNATURE_KEYS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def commands(command: click.Command, path: str = "refsr-bench") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")
    else:
        yield path, command


def test_generated_pages_are_not_stale(tmp_path: Path) -> None:
    # In a process of its own: click keeps the help option of a command that was run before in this one.
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py", tmp_path], check=True)
    for page in tmp_path.iterdir():
        assert page.read_text("utf-8") == (ROOT / "docs" / page.name).read_text("utf-8"), f"{page.name}: run make docs"


@pytest.mark.parametrize(("path", "command"), list(commands(cli)))
def test_every_command_has_two_examples_and_helped_options(path: str, command: click.Command) -> None:
    assert command.help is not None
    assert len(re.findall(rf"^\s+{path}\b", command.help.partition("Examples:")[2], re.MULTILINE)) >= 2
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.name} has no help"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_pages_exist(page: Path) -> None:
    known = {path.split()[1] for path, _ in commands(cli)}
    for name in re.findall(r"^\s*refsr-bench ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE):
        assert name in known, f"{page.name} mentions refsr-bench {name}"


def test_every_signature_key_and_protocol_is_documented() -> None:
    text = (ROOT / "docs" / "protocols.md").read_text("utf-8")
    for name in [*SIGNATURE_KEYS, *PRESETS]:
        assert f"`{name}`" in text, f"docs/protocols.md does not explain {name}"


def test_every_built_in_name_is_documented() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES if page.name != "cli-reference.md")
    for kind in KINDS:
        for name in list_entries(kind):
            assert f"`{name}`" in text, f"no page mentions the {kind.removesuffix('s')} {name}"
