"""Figures: the right numbers in the right places, names that cannot act, files that come out the same again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refsr_bench.cli import cli
from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.images import load_image
from refsr_bench.results.figures.ablation import ablation_steps, draw_ablation
from refsr_bench.results.figures.crops import Box, Strip, Tile, check_box, choose_box, draw_crops
from refsr_bench.results.figures.papertables import (
    DATASETS,
    draw_table1,
    draw_table4,
    measured_lines,
    measured_sizes,
    published_sizes,
)
from refsr_bench.results.figures.shares import draw_categories, draw_preferences
from refsr_bench.results.figures.style import WIDTHS_IN, encode_figure
from refsr_bench.results.leaderboard import make_tables
from refsr_bench.results.published import read_published, select_published, trained_with_gan
from refsr_bench.results.rows import find_runs
from refsr_bench.results.study.analysis import Preference
from tests.results.synthetic import write_run

HOSTILE = "$\\frac{<script>$ \x1b[31m\u202e%"


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in axes.texts if t.get_text()]


def test_table1_shows_every_printed_number_in_its_place() -> None:
    figure = draw_table1([])
    (axes,) = figure.axes
    by_line: dict[float, list[tuple[float, str]]] = {}
    for text in axes.texts:
        x, y = text.get_position()
        by_line.setdefault(round(y, 3), []).append((x, text.get_text()))
    lines = {sorted(line)[0][1]: [text for _, text in sorted(line)[1:]] for line in by_line.values()}
    numbers = select_published(table="Table 1")
    assert len(numbers) == 81
    for method in dict.fromkeys(p.method for p in numbers):
        cells = {p.dataset: [p.psnr, "/", p.ssim.removeprefix("0")] for p in numbers if p.method == method}
        assert lines[method] == [part for d in DATASETS for part in cells.get(d, ["–"])], method


def test_the_best_of_table1_is_bold_and_gan_rows_are_grey() -> None:
    (axes,) = draw_table1([]).axes
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert {"28.24", ".841", "30.18", ".817", "26.03", ".792", "30.47", ".911", "28.32", ".801"} <= bold
    assert len(bold) == 10 + len(DATASETS)
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["C2-Matching"] == colours["SRGAN"] != colours["C2-Matching-rec"] == colours["EDSR"]
    grey = {p.method for p in read_published() if trained_with_gan(p.method)}
    assert not any(name.endswith("-rec") for name in grey)


def test_measured_runs_stand_under_the_printed_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "mine", [27.0, 29.0], dataset="cufed5@123456", parameters=3_000_000)
    write_run(tmp_path / "b", "mine", [30.0, 31.0], dataset="wr-sr@123456", parameters=3_000_000)
    write_run(tmp_path / "c", HOSTILE, [20.0, 21.0], dataset="cufed5@123456", adversarial=True)
    tables = make_tables(find_runs([tmp_path]))
    lines = {line.method: line for line in measured_lines(tables, list(DATASETS))}
    assert lines["mine"].cells[0] is not None
    assert lines["mine"].cells[0][0] == "28.00"
    assert [cell is None for cell in lines["mine"].cells] == [False, True, True, True, False]
    assert lines[HOSTILE].gan
    figure = draw_table1(list(lines.values()))
    assert "28.00" in texts(figure)
    assert b"<script>" not in encode_figure(figure, ".svg")
    (sized,) = measured_sizes(tables, "cufed5")
    assert (sized.method, sized.parameters, sized.psnr) == ("mine", 3e6, "28.00")
    assert "28.00 / .932" in texts(draw_table4([sized]))


def test_table4_is_the_printed_one() -> None:
    assert [(s.method, s.parameters / 1e6, s.psnr, s.ssim) for s in published_sizes()] == [
        ("RCAN", 16, "26.06", ".769"),
        ("RankSRGAN", 1.5, "22.31", ".635"),
        ("CrossNet", 33.6, "25.48", ".764"),
        ("SRNTT-rec", 4.2, "26.24", ".784"),
        ("TTSR-rec", 6.4, "27.09", ".804"),
        ("C2-Matching-light", 4.8, "28.14", ".839"),
        ("C2-Matching-rec", 8.9, "28.24", ".841"),
    ]


@pytest.mark.parametrize("width", ["column", "page"])
def test_figures_have_their_width(width: str) -> None:
    pdf = encode_figure(draw_preferences([Preference("a", "b", 3, 4, 0.3, 0.9, 2)], width=width), ".pdf")
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(WIDTHS_IN[width] * 72, abs=0.1)
    assert b"/Subtype /Type3" not in pdf


def test_figures_are_what_their_suffix_says_and_repeatable() -> None:
    for suffix, magic in ((".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")):
        first, second = (encode_figure(draw_categories({"a": {"x": 2, "y": 1}}), suffix) for _ in range(2))
        assert first == second
        assert first.startswith(magic)
    with pytest.raises(UsageError, match=r"\.pdf, \.svg, \.png"):
        encode_figure(Figure(), ".gif")


def test_ablation_adds_up(tmp_path: Path) -> None:
    values = [[20.0, 25.0, 30.0], [20.5, 25.0, 30.4], [21.0, 25.5, 30.3]]
    for i, own in enumerate(values):
        write_run(tmp_path / str(i), f"v{i}", own)
    runs = [find_runs([tmp_path / str(i)])[0] for i in range(3)]
    steps = ablation_steps(runs, ["a", "b", "c"], "psnr_y", None)
    assert [round(s.added.mean, 6) for s in steps if s.added] == [0.3, 0.3]
    assert steps[0].mean + sum(s.added.mean for s in steps if s.added) == pytest.approx(steps[-1].mean)
    last = ablation_steps(runs, ["a", "b", "c"], "psnr_y", frozenset({"002"}))[-1]
    assert last.added is not None
    assert last.added.mean == pytest.approx(-0.1)
    assert last.images == 1
    assert {"+0.30"} <= set(texts(draw_ablation([("all images", steps)], metric="psnr_y")))
    with pytest.raises(UsageError, match="share no sample"):
        ablation_steps(runs, ["a", "b", "c"], "psnr_y", frozenset({"x"}))
    write_run(tmp_path / "other", "v3", [1.0, 2.0], dataset="d@654321")
    with pytest.raises(SignatureMismatch):
        ablation_steps([runs[0], find_runs([tmp_path / "other"])[0]], ["a", "b"], "psnr_y", None)


def test_the_box_is_where_methods_differ(photographs: Path) -> None:
    hr = load_image(photographs / "chelsea.png")[:120, :160]
    changed = hr.copy()
    changed[70:90, 40:60] = 255 - changed[70:90, 40:60]
    for restored in ([hr, changed], [changed]):
        box = choose_box(hr, restored)
        assert box.x <= 40 <= 60 <= box.x + box.width
        assert box.y <= 70 <= 90 <= box.y + box.height
    with pytest.raises(UsageError, match="not inside"):
        check_box(Box(150, 0, 20, 20), hr)


def test_crops_are_cut_from_the_pictures(photographs: Path) -> None:
    hr = load_image(photographs / "chelsea.png")[:120, :160]
    box = Box(20, 40, 32, 24)
    tiles = (Tile("one", "30.00 dB", 255 - hr), Tile(HOSTILE, "", hr // 2))
    figure = draw_crops([Strip("s", hr, hr[::4, ::4], hr[:60], tiles, box)])
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert np.array_equal(shown[0], hr)
    lr, ref, one, two, truth = shown[1:]
    assert np.array_equal(lr, np.repeat(np.repeat(hr[::4, ::4], 4, 0), 4, 1)[40:64, 20:52])
    assert np.array_equal(ref, hr[:60])
    assert np.array_equal(one, (255 - hr)[40:64, 20:52])
    assert np.array_equal(two, (hr // 2)[40:64, 20:52])
    assert np.array_equal(truth, hr[40:64, 20:52])
    assert encode_figure(figure, ".svg")


def test_a_long_name_stays_below_its_own_picture(photographs: Path) -> None:
    hr = load_image(photographs / "chelsea.png")[:120, :160]
    tiles = tuple(Tile(f"c2matching-small-{step}", "30.00 dB", hr) for step in ("baseline", "contrastive"))
    figure = draw_crops([Strip("s", hr, hr[::4, ::4], hr[:60], tiles, Box(20, 40, 32, 24))])
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes[1:]:
        [label] = axes.texts
        assert label.get_window_extent(renderer).width <= 1.1 * axes.get_position().width * figure.bbox.width


def test_shares_are_said() -> None:
    figure = draw_preferences([Preference("ours", "theirs", 83, 100, 0.74, 0.89, 20)])
    assert {"83 %", "17 %"} == set(texts(figure))
    rings = draw_categories({"a": {"x": 3, "y": 1}, "b": {"y": 2}})
    assert texts(rings) == ["75%", "25%", "4\nimages", "100%", "2\nimages"]


def test_every_plot_command_draws(demo_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSR_DATA_DIR", str(demo_report / "data"))
    monkeypatch.chdir(tmp_path)
    runs = [str(demo_report / "runs" / name) for name in ("bicubic", "hr")]
    for arguments in (
        ["table1", "--out", "t1.pdf"],
        ["table4", "--width", "column", "--out", "t4.svg"],
        ["ablation", *runs, "--label", "$a$", "--label", "b", "--out", "a.png"],
        ["crops", *runs, "--sample", "two-view-1", "--box", "10,10,40,30", "--out", "c.pdf"],
        ["categories", "demo", "--out", "k.png"],
    ):
        done = CliRunner().invoke(cli, ["plot", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[-1] == f"written: {arguments[-1]}"
        assert Path(arguments[-1]).stat().st_size > 5000
    with pytest.raises(UsageError, match="did you mean"):
        CliRunner().invoke(cli, ["plot", "crops", *runs, "--sample", "two-view-9"], catch_exceptions=False)


def test_hostile_names_are_inert_in_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        write_run(tmp_path / str(i), f"{HOSTILE}{i}", [20.0 + i, 21.0])
    monkeypatch.chdir(tmp_path)
    for arguments in (["plot", "ablation", "0", "1", "--out", "a.svg"], ["compare", "0", "1"], ["leaderboard", "."]):
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        assert "frac{" in done.output
        assert not {"\x1b", "\u202e"} & set(done.output)
    assert "<script>" not in Path("a.svg").read_text("utf-8")
