"""What commands show while they work."""

from __future__ import annotations

import pytest
import tqdm

from refsr_bench.cli.output import show_progress


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
