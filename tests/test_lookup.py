"""Names to objects: the built-in tables, other people's plug-ins, and what a broken one does."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from refsr_bench import lookup
from refsr_bench.errors import UsageError
from refsr_bench.models.bicubic import build


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = (
        EntryPoint("mine", "refsr_bench.models.bicubic:build", "refsr_bench.models"),
        EntryPoint("broken", "no_such_package:build", "refsr_bench.models"),
        EntryPoint("bicubic", "no_such_package:build", "refsr_bench.models"),
    )
    monkeypatch.setattr(lookup, "entry_points", lambda group: [p for p in points if p.group == group])


@pytest.mark.usefixtures("plug_ins")
def test_plug_ins_are_listed_and_found() -> None:
    assert {"bicubic", "c2matching", "mine", "broken"} <= set(lookup.list_entries("models"))
    assert lookup.find("models", "mine") is build
    assert "mine" not in lookup.list_entries("datasets")


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_cannot_take_a_built_in_name() -> None:
    assert lookup.find("models", "bicubic") is build


@pytest.mark.usefixtures("plug_ins")
def test_a_broken_plug_in_is_named_and_stops_nothing_else() -> None:
    with pytest.raises(UsageError, match=r"'broken' \(no_such_package:build\) cannot be loaded: ModuleNotFoundError"):
        lookup.find("models", "broken")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="no metric called 'psnry'") as caught:
        lookup.find("metrics", "psnry")
    assert 'did you mean "psnr_y"' in str(caught.value)
