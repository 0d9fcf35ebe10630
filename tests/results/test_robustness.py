"""Group means and curves of runs on a transformed set, and the figures drawn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.figures.matches import Drawn, choose_nodes, draw_matches
from refsr_bench.results.figures.robustness import draw_robustness
from refsr_bench.results.figures.style import encode_figure
from refsr_bench.results.leaderboard import UPPER_BOUND
from refsr_bench.results.robustness import robustness_series, to_markdown
from refsr_bench.results.rows import Run
from refsr_bench.schema import Row

GROUPS = {"rotation-small": 1.0, "rotation-medium": 2.0, "rotation-large": 4.0}
POINTS = {"rotation-at-90": 9.0, "rotation-at-0": 0.0, "rotation-at-10": 1.0, "scale-at-0.5": 3.0, "scale-at-2": 2.0}
CONTROLS = {"control-identity": 0.0}


def run(model: str, metric: str, offset: float = 0.0, *, data: str = "t@123456", failed: str = "") -> Run:
    rows = []
    for group, value in (GROUPS | POINTS | CONTROLS).items():
        for i in range(4):
            lost = group == failed and i == 0
            rows.append(
                Row(
                    model=model,
                    dataset=data,
                    sample=f"{i}.{group}",
                    group=group,
                    refs=(),
                    metric=metric,
                    value=None if lost else value + offset + 0.1 * i,
                    signature=f"{metric}|data:{data}|def:1",
                    status="failed" if lost else "ok",
                )
            )
    return Run(Path(model), tuple(rows))


def test_means_stand_where_they_belong() -> None:
    (series,) = robustness_series([run("m", "aee", failed="rotation-large")], ["aee", "psnr_y"])
    assert series.levels["rotation", "medium"].mean.mean == pytest.approx(2.15)
    assert (series.levels["rotation", "large"].scored, series.levels["rotation", "large"].of) == (3, 4)
    assert [value for value, _ in series.curves["rotation"]] == [0, 10, 90]
    assert [value for value, _ in series.curves["scale"]] == [0.5, 2]
    assert list(series.controls) == ["identity"]
    text = to_markdown([series])
    assert "| 1.15 | 2.15 | 4.20 (3 of 4) |" in " ".join(text.split())
    assert "[aee] `aee|data:t@123456|def:1`" in text
    assert UPPER_BOUND in text


def test_two_rulers_are_not_drawn_together() -> None:
    with pytest.raises(SignatureMismatch, match="different ways"):
        robustness_series([run("a", "aee"), run("b", "aee", data="u@654321")], ["aee"])


def test_runs_on_other_sets_are_refused_with_a_remedy() -> None:
    other = run("a", "aee").rows[0].model_copy(update={"group": "two-view"})
    with pytest.raises(UsageError, match="build transformed"):
        robustness_series([Run(Path("a"), (other,))], ["aee"])


@pytest.mark.parametrize(("suffix", "show"), [(".svg", "both"), (".pdf", "bars"), (".png", "curves")])
def test_the_figure_is_drawn_in_every_format_and_twice_the_same(suffix: str, show: str) -> None:
    runs = [run("<oracle> $x$", "aee"), run("sift", "aee", 2), run("model", "psnr_y", 25)]
    series = robustness_series(runs, ["aee", "psnr_y"])
    first, second = (encode_figure(draw_robustness(series, show=show), suffix) for _ in range(2))
    assert first == second
    assert first.startswith({".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}[suffix])


def test_every_model_is_told_apart_without_colour() -> None:
    series = robustness_series([run(name, "aee", i) for i, name in enumerate("abcd")], ["aee"])
    figure = draw_robustness(series, show="bars")
    hatches = [
        container.patches[0].get_hatch() for container in figure.axes[0].containers if hasattr(container, "patches")
    ]
    assert len(set(hatches)) == len(hatches) == 4


def test_nodes_are_spread_over_the_picture() -> None:
    x, y = np.meshgrid(np.arange(5.5, 115, 4), np.arange(5.5, 75, 4))
    nodes = np.stack([x.ravel(), y.ravel()], axis=-1)
    chosen = nodes[choose_nodes(nodes, 24)]
    assert 20 <= len(chosen) <= 28
    assert len({tuple(point) for point in chosen}) == len(chosen)
    assert chosen[:, 0].min() < 20
    assert chosen[:, 0].max() > 95
    assert len(choose_nodes(nodes[:1], 60)) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_matches_are_drawn(count: int) -> None:
    picture, ref = np.zeros((40, 60, 3), np.uint8), np.zeros((50, 30, 3), np.uint8)
    nodes = np.array([[10.0, 10.0], [30.0, 20.0]])
    drawn = [Drawn(f"m{i}", nodes / 2, np.array([0.5, 30.0])) for i in range(count)]
    figure = draw_matches(picture, ref, nodes, drawn)
    assert len(figure.axes[0].collections) == 2 * count + 1
    assert encode_figure(figure, ".png").startswith(b"\x89PNG")
