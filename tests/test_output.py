"""What commands show while they work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import tqdm

from refsr_bench.cli.output import show_progress
from refsr_bench.cli.reporting import raise_failures
from refsr_bench.errors import ItemsFailed


def test_the_speed_of_work_that_goes_on_leaves_out_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFSR_NO_PROGRESS", raising=False)
    bars: list[tqdm.tqdm] = []

    class Kept(tqdm.tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Kept)
    with show_progress("train", 2000) as advance:
        for step in range(901, 911):
            advance(step)
        assert (bars[0].n, bars[0].initial) == (910, 900)
    with show_progress("train", 3) as advance:
        advance(1)
        assert (bars[1].n, bars[1].initial) == (1, 0)


def test_a_list_of_failures_that_is_cut_short_says_so() -> None:
    rows = [SimpleNamespace(sample=f"{i:02}", status="failed", reason="no picture") for i in range(22)]
    run = cast(Any, SimpleNamespace(rows=rows, info=SimpleNamespace(samples=30)))
    with pytest.raises(ItemsFailed, match=r"^22 of 30 samples failed:\n  00: no picture\n") as caught:
        raise_failures([run])
    assert caught.value.problem.endswith("\n  19: no picture\n  and 2 more")
