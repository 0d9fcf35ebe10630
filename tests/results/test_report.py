"""The HTML report without a browser: what its pages say, that its pictures are right, and that texts cannot act."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from refsr_bench.cli.board import prepare
from refsr_bench.errors import UsageError
from refsr_bench.images import load_image, luma_bt601
from refsr_bench.results.noise import MeasuredEffect, ProtocolNoise, read_protocol_noise
from refsr_bench.results.published import read_published
from refsr_bench.results.report.build import PictureSource, Written, build_report
from refsr_bench.results.report.content import describe_printed
from refsr_bench.results.report.images import ERROR_LIMIT, choose_samples, draw_matches, encode_error_map
from refsr_bench.results.report.marks import signed
from refsr_bench.results.rows import RUN_NAME, find_runs
from refsr_bench.schema import ModelCard
from refsr_bench.store import open_dataset
from tests.results.synthetic import write_run

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}\x1b[31m\u202e"


def build(root: Path, out: Path, **options: object) -> Written:
    settings = {"explain": lambda text: [(text, "meaning")], "definitions": {"psnr_y": "1", "ssim_y": "1"}}
    return build_report(find_runs([root]), out, **(settings | options))  # type: ignore[arg-type]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "a", "bicubic", [25.0, 30.0, 28.0], uses_reference=False)
    write_run(tmp_path / "runs" / "b", "c2matching", [26.0, 30.5, 27.9], dataset="d@123456", parameters=8_865_547)
    return tmp_path / "runs"


class Page(HTMLParser):
    """Every element of a page with its attributes, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_say_the_numbers(runs: Path, tmp_path: Path) -> None:
    written = build(runs, tmp_path / "report")
    assert written.runs == 2
    text = Page(written.page).text
    assert "28.13" in text
    assert "8.9 M" in text
    assert re.search(r"psnr_y: bicubic is .* c2matching, -0.47 dB on 3 images", text)
    page = Page(next((tmp_path / "report" / "run").glob("c2matching-*.html")))
    samples = [a["data-value"] for tag, a in page.elements if tag == "th" and a.get("data-value")]
    assert samples == ["002", "001", "000"]  # -0.1, +0.5, +1.0
    assert json.loads((tmp_path / "report" / "report.json").read_text())["tables"][0]["dataset"] == "d@123456"


def test_every_link_leads_somewhere(runs: Path, tmp_path: Path) -> None:
    build(runs, tmp_path / "report")
    pages = sorted((tmp_path / "report").rglob("*.html"))
    ids = {page: {a.get("id") for _, a in Page(page).elements} for page in pages}
    count = 0
    for page in pages:
        for _, attributes in Page(page).elements:
            link = attributes.get("href") or attributes.get("src")
            if link and link != "data:,":
                path, _, anchor = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                assert target.is_file(), f"{page.name} links to {link}"
                assert not anchor or anchor in ids[target], f"{page.name} links to {link}"
                count += 1
    assert count > 30


def test_hostile_texts_are_inert(tmp_path: Path) -> None:
    for i, name in enumerate((HOSTILE, "</title></script>" + HOSTILE)):
        write_run(tmp_path / "runs" / f"x{i}", name, [20.0, 21.0 + i], title=HOSTILE, paper=HOSTILE, trained_on=HOSTILE)
    build(tmp_path / "runs", tmp_path / "report")
    for path in (tmp_path / "report").rglob("*.html"):
        page = Page(path)
        assert not {"\x1b", "\u202e"} & set(path.read_text("utf-8"))
        assert page.text.count("{{7*7}}") == page.text.count("alert(2)")
        for tag, attributes in page.elements:
            assert tag != "img", f"{path} holds an image that no template wrote"
            assert tag != "script" or set(attributes) <= {"src", "defer"}
            assert tag != "script" or (attributes["src"] or "").removeprefix("../") in {"report.js", "viewer.js"}
            assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert re.search("script-src 'self'", path.read_text("utf-8"))
    assert "<script>alert(1)</script>" in Page(tmp_path / "report" / "index.html").text


def test_a_report_is_replaced_but_nothing_else_is(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    build(runs, out)
    (out / "run" / "old.html").write_text("old")
    build(runs, out)
    assert not (out / "run" / "old.html").exists()
    assert [path.name for path in tmp_path.glob(".report*")] == [".report.lock"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    (other / "report.json").write_text('{"my": "own report"}')
    with pytest.raises(UsageError, match="holds other files"):
        build(runs, other)
    assert (other / "thesis.txt").read_text() == "precious"


def test_an_unknown_baseline_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run is of a model called 'x'"):
        build(runs, tmp_path / "report", baseline="x")
    assert not (tmp_path / "report").exists()


def test_older_definitions_are_marked(runs: Path, tmp_path: Path) -> None:
    build(runs, tmp_path / "report", definitions={"psnr_y": "2"})
    assert "older definition" in Page(tmp_path / "report" / "index.html").text


def test_a_difference_below_protocol_noise_is_marked(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "c", "twin", [26.1, 30.6, 28.0])
    noise = ProtocolNoise((MeasuredEffect("ttsr-2020", "crop", "psnr_y", -0.24, 3, "bicubic", "d@123456"),))
    build(runs, tmp_path / "report", noise=noise)
    text = Page(tmp_path / "report" / "index.html").text
    assert "below protocol noise" in text
    assert "smaller than protocol noise: crop alone moves psnr_y by 0.24 dB (bicubic on d@123456)" in text
    assert noise.describe("psnr_y", 0.25) == ""
    assert noise.describe("ssim_y", 0.0001) == ""


def test_measured_protocol_noise_is_packed_and_plausible() -> None:
    noise = read_protocol_noise()
    assert noise is not None
    largest = noise.largest("psnr_y")
    assert largest is not None
    assert 0.03 < abs(largest.difference) < 0.5
    assert noise.largest("psnr_rgb") is None, "it was measured against luma, which says nothing about RGB"
    full = [e.difference for e in noise.effects if e.protocol.endswith("+ch=y601full") and e.metric == "psnr_y"]
    assert full == pytest.approx([20 * math.log10(219 / 255)] * len(full), abs=1e-4)
    assert full


def test_published_numbers_stand_beside_measured_ones(tmp_path: Path) -> None:
    for model, card in {"c2matching": {}, "c2matching-gan": {"adversarial": True}, "rcan": {}}.items():
        write_run(tmp_path / "runs" / model, model, [27.0, 28.0], dataset="cufed5@123456", **card)
    build(tmp_path / "runs", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    for entry, numbers in {
        "c2matching": "28.24 / .841",
        "c2matching-gan": "27.16 / .805",
        "rcan": "26.06 / .769",
    }.items():
        (body,) = re.findall(rf'<tbody data-kind="[a-z-]+" data-text="{entry} .*?</tbody>', page, re.DOTALL)
        assert numbers in body


def test_published_numbers_say_why_they_may_not_be_compared() -> None:
    known = {(p.method, p.dataset, p.protocol): p for p in read_published()}
    table1 = next(p for p in known.values() if p.method == "C2-Matching-rec" and p.dataset == "cufed5" and p.table)
    assert describe_printed(table1, "c2-2021", "first").comparable
    assert "another protocol" in describe_printed(table1, "ttsr-2020", "first").note
    drawn = next(p for p in known.values() if "random permutation" in p.protocol)
    assert "another reference" in describe_printed(drawn, "c2-2021", "first").note
    silent = next(p for p in known.values() if p.method == "SRCNN")
    assert "not stated" in describe_printed(silent, "c2-2021", "first").note


def test_signed_differences() -> None:
    assert [signed("psnr_y", v) for v in (0.5, -0.5, 0.001, -0.001)] == ["+0.50", "−0.50", "±0.00", "±0.00"]
    assert signed("ssim_y", -0.01234) == "−0.0123"


def test_error_maps_are_the_luma_error(photographs: Path) -> None:
    hr = load_image(photographs / "chelsea.png")[:40, :60]
    sr = np.roll(hr, 1, axis=1)
    indices = np.asarray(PilImage.open(io.BytesIO(encode_error_map(hr, sr)))).astype(float)
    expected = np.clip(np.abs(luma_bt601(hr) - luma_bt601(sr)), 0, ERROR_LIMIT) * 255 / ERROR_LIMIT
    assert np.abs(indices - expected).max() <= 0.5
    assert indices.max() > 100


def test_samples_with_pictures_are_those_that_differ_most() -> None:
    values = {"a": {"x": 1.0, "y": 2.0, "z": 3.0}, "b": {"x": 1.1, "y": 4.0, "z": 2.5}}
    assert choose_samples(values, 2) == ["y", "z"]
    assert choose_samples({"a": values["a"]}, 2) == ["x", "y"]
    assert choose_samples({"a": values["a"]}, 2, falling=True) == ["z", "y"]
    assert ModelCard(name="m", title="", paper="", uses_reference=True).kind == "reference"


def test_pictures_are_the_ones_that_were_scored(demo_report: Path) -> None:
    pages = sorted((demo_report / "report" / "picture").rglob("*.html"))
    assert len(pages) == 3
    for path in pages:
        page = Page(path)
        roles = [a["data-role"] for _, a in page.elements if "data-role" in a]
        assert roles == ["lr", "ref", "sr", "sr", "hr"]
        images = [
            (a["alt"], (path.parent / str(a["src"])).resolve())
            for tag, a in page.elements
            if a.get("src")
            if tag == "img"
        ]
        named = {str(alt).rpartition(" of ")[0]: load_image(file) for alt, file in images}
        sample = path.stem.rpartition("-")[0]
        assert np.array_equal(named["bicubic"], load_image(demo_report / "runs" / "bicubic" / "sr" / f"{sample}.png"))
        assert np.array_equal(named["truth"], named["HR (ground truth)"])
        assert named["LR input"].shape[0] * 4 == named["bicubic"].shape[0]
        errors = [(path.parent / str(a["data-error"])).resolve() for _, a in page.elements if "data-error" in a]
        assert all(file.is_file() for file in errors)


def test_a_matcher_is_not_said_to_lack_pictures(demo_report: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_report / "runs" / "bicubic", tmp_path / "runs" / "bicubic")
    (matcher,) = find_runs([shutil.copytree(demo_report / "runs" / "hr", tmp_path / "runs" / "matcher")])
    assert matcher.info is not None
    changed = {"scored": ("matches",), "images": "flow", "file_pattern": "{name}.npz"}
    (matcher.folder / RUN_NAME).write_text(matcher.info.model_copy(update=changed).model_dump_json())
    dataset = open_dataset(demo_report / "data" / "demo")
    pictures = PictureSource(lambda _: dataset, prepare, 3)
    assert build(tmp_path / "runs", tmp_path / "report", pictures=pictures).remarks == ()
    shutil.rmtree(tmp_path / "runs" / "bicubic" / "sr")
    missing = build(tmp_path, tmp_path / "r", pictures=pictures).remarks
    assert ["bicubic: " in text and "there is no such file" in text for text in missing] == [True] * 3


def test_matches_are_drawn_from_node_to_match(tmp_path: Path) -> None:
    hr, ref = np.zeros((40, 60, 3), np.uint8), np.zeros((50, 70, 3), np.uint8)
    nodes, matches = np.array([[10.0, 20.0], [500.0, 20.0]]), np.array([[30.0, 40.0], [1.0, 1.0]])
    np.savez(tmp_path / "f.npz", nodes=nodes + np.array([4, 8]), matches=matches + np.array([2, 6]), score=np.ones(2))
    drawn = draw_matches(hr, ref, tmp_path / "f.npz", (4, 8), (2, 6)).astype(int)
    assert drawn.shape == (50, 130, 3)
    coloured = np.ptp(drawn, axis=2) > 40
    assert coloured[20, 10]
    assert coloured[40, 60 + 30]
    assert coloured[30, 50]  # half-way
    assert not coloured[:10].any(), "a node outside the picture is not drawn"
