"""Cleaning: verdicts with reasons, duplicates, resuming, hostile and unusual pictures."""

from __future__ import annotations

import io
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from refsr_bench.cli.curate import _verified_matches
from refsr_bench.collectors.curation.answers import Manners
from refsr_bench.collectors.curation.clean import Rules, candidates_of, clean_pools, read_pool
from refsr_bench.collectors.curation.providers import local_folder
from refsr_bench.collectors.curation.queries import take_folder
from refsr_bench.collectors.curation.ranking import count_consistent
from refsr_bench.collectors.curation.rows import CANDIDATES, QUERIES, Candidate, Judged, Query, append_row, read_rows
from refsr_bench.collectors.curation.search import Plan, gather_candidates, searching
from refsr_bench.collectors.curation.web import Web
from refsr_bench.images import encode_png, load_image


def nothing(*values: object) -> None:
    """Hears progress and notes."""


def curate(home: Path, query: Path, files: dict[str, bytes]) -> dict[str, Candidate | Judged]:
    """Search and clean one query with these files as its candidates; what became of each."""
    pool, queries, work = home / "pool", home / "queries", home / "work"
    pool.mkdir()
    queries.mkdir()
    shutil.copy(query, queries)
    for name, data in files.items():
        (pool / name).write_bytes(data)
    take_folder(work, queries, {}, "cc0-1.0", nothing)
    found = read_rows(work / QUERIES, Query)
    plan = Plan({"local-folder": local_folder.PROVIDER}, source=pool, source_licence="CC0")
    with searching(work):
        gather_candidates(work, found, plan, Web(Manners("")), progress=nothing, note=nothing)
    clean_pools(work, found, Rules(), jobs=1, progress=nothing)
    judged = read_pool(work, found[0].name)
    assert judged is not None
    failed = {row.origin.title: row for row in read_rows(work / CANDIDATES, Candidate) if row.status != "ok"}
    return {**failed, **{row.candidate.origin.title: row for row in judged.rows}}


def encode(image: np.ndarray, format: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(image).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def test_hostile_and_damaged_pictures_are_rejected_with_the_reason(tmp_path: Path, photographs: Path) -> None:
    rocket = (photographs / "rocket.jpg").read_bytes()
    small = load_image(photographs / "coffee.png")
    bomb = encode(np.zeros((4, 4, 3), np.uint8), "PNG")
    header = bomb[12:16] + (40_000).to_bytes(4, "big") * 2 + bomb[24:29]
    bomb = bomb[:12] + header + zlib.crc32(header).to_bytes(4, "big") + bomb[33:]
    files = {
        "truncated.jpg": rocket[:30_000], "truncated.png": (photographs / "coffee.png").read_bytes()[:30_000],
        "empty.jpg": b"", "text.png": b"not a picture", "gif.jpg": encode(small, "GIF", "P"),
        "webp.jpg": encode(small, "WEBP"), "tiff.jpg": encode(small, "TIFF"), "svg.jpg": b"<svg xmlns='x'/>",
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF", "avif.jpg": b"\0\0\0 ftypavif" + bytes(64), "bomb.png": bomb,
        "jp2.jpg": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "fits.jpg": b"SIMPLE  =  T" + bytes(64),
    }  # fmt: skip
    rows = curate(tmp_path, photographs / "chelsea.png", files)
    assert set(rows) == set(files)
    for name, row in rows.items():
        if isinstance(row, Judged):
            assert row.verdict == "unreadable", name
            assert row.reason, name
        else:
            assert row.status == "failed"
            assert row.error, name
    reason = {name: row.reason if isinstance(row, Judged) else str(row.error) for name, row in rows.items()}
    assert "truncated" in reason["truncated.jpg"]
    assert "pixels" in reason["bomb.png"]
    assert "a GIF" in reason["gif.jpg"]
    assert "ends in .jpg" in reason["webp.jpg"]


def test_unusual_pictures_are_converted_by_the_rules(tmp_path: Path, photographs: Path) -> None:
    coffee = load_image(photographs / "coffee.png")
    turned = PilImage.Exif()
    turned[0x0112] = 6
    files = {
        "turned.jpg": encode(coffee, "JPEG", exif=turned),
        "cmyk.jpg": encode(load_image(photographs / "rocket.jpg"), "JPEG", "CMYK"),
        "palette.png": encode(load_image(photographs / "astronaut.png"), "PNG", "P"),
        "grey.png": encode(load_image(photographs / "ihc.png"), "PNG", "L"),
        "alpha.png": encode(load_image(photographs / "motorcycle_left.png"), "PNG", "RGBA"),
    }
    deep = PilImage.fromarray(np.arange(512 * 300, dtype=np.uint16).reshape(300, 512))
    buffer = io.BytesIO()
    deep.save(buffer, "PNG")
    files["deep.png"] = buffer.getvalue()
    rows = curate(tmp_path, photographs / "chelsea.png", files)
    judged = {name: row for name, row in rows.items() if isinstance(row, Judged)}
    assert {row.verdict for row in judged.values()} == {"kept"}
    assert (judged["turned.jpg"].height, judged["turned.jpg"].width) == (coffee.shape[1], coffee.shape[0])


def test_doubles_go_the_largest_stays(tmp_path: Path, photographs: Path) -> None:
    coffee = load_image(photographs / "coffee.png")
    reduced = np.asarray(PilImage.fromarray(coffee).resize((450, 300)))
    files = {
        "a-small.jpg": encode(reduced, "JPEG", quality=70), "b-large.png": encode_png(coffee),
        "c-same.png": encode_png(coffee), "d-other.png": (photographs / "astronaut.png").read_bytes(),
    }  # fmt: skip
    rows = curate(tmp_path, photographs / "chelsea.png", files)
    verdicts = {name: row.verdict for name, row in rows.items() if isinstance(row, Judged)}
    assert verdicts.pop("d-other.png") == "kept"
    assert verdicts.pop("a-small.jpg") == "duplicate"
    assert sorted(verdicts.values()) in (["kept"], ["duplicate", "kept"])  # the same bytes are one candidate


def test_another_view_of_a_scene_is_no_double(tmp_path: Path, photographs: Path) -> None:
    files = {side: (photographs / f"motorcycle_{side}").read_bytes() for side in ("left.png", "right.png")}
    rows = curate(tmp_path, photographs / "chelsea.png", files)
    assert {row.verdict for row in rows.values() if isinstance(row, Judged)} == {"kept"}


def test_a_cleaned_pool_says_why_and_in_what_order(cleaned: Path) -> None:
    pool = read_pool(cleaned, "chelsea")
    assert pool is not None
    copy = next(row for row in pool.rows if row.candidate.origin.title == "mirrored.png")
    assert copy.verdict == "copy of the query"
    assert copy.leak is not None
    assert copy.leak.mirrored
    assert "mirrored" in copy.reason
    assert {row.verdict for row in pool.rows if row.candidate.origin.title in ("tiny.png", "broken.png")} == {
        "too small",
        "unreadable",
    }
    motorcycle = read_pool(cleaned, "motorcycle_left")
    assert motorcycle is not None
    assert motorcycle.rows[0].candidate.origin.title == "motorcycle_right.png"
    assert [row.rank for row in motorcycle.rows if row.rank] == list(range(1, 8))
    assert motorcycle.rows[0].score is not None
    assert motorcycle.rows[0].score.inliers > 100


def test_only_what_changed_is_judged_again(work: Path, photographs: Path) -> None:
    queries = read_rows(work / QUERIES, Query)
    times = {path.name: path.stat().st_mtime_ns for path in (work / "judged").iterdir()}
    clean_pools(work, queries, Rules(), jobs=1, progress=nothing)
    assert times == {path.name: path.stat().st_mtime_ns for path in (work / "judged").iterdir()}
    row = candidates_of(work)["coffee"][0]
    append_row(work / CANDIDATES, row.model_copy(update={"status": "refused", "error": "taken down on request"}))
    (work / "judged" / "chelsea.json").write_text("{ torn")
    clean_pools(work, queries, Rules(), jobs=1, progress=nothing)
    changed = {p.name for p in (work / "judged").iterdir() if p.stat().st_mtime_ns != times[p.name]}
    assert changed == {"coffee.json", "chelsea.json"}
    assert json.loads((work / "judged" / "chelsea.json").read_text())["query"]["name"] == "chelsea"


def test_another_matcher_leads_the_ranking(work: Path) -> None:
    queries = [query for query in read_rows(work / QUERIES, Query) if query.name == "coffee"]

    def tallest(query: np.ndarray, candidate: np.ndarray) -> int:
        return int(candidate.shape[0])

    clean_pools(work, queries, Rules(matcher="tallest"), jobs=1, progress=nothing, matcher=tallest)
    pool = read_pool(work, "coffee")
    assert pool is not None
    heights = [row.height for row in pool.rows if row.rank]
    assert heights == sorted(heights, reverse=True)
    assert pool.rows[0].score is not None
    assert pool.rows[0].score.matcher_inliers == heights[0]


def test_dense_matches_count_if_they_lead_back_and_fit_one_view() -> None:
    nodes = np.stack(np.meshgrid(np.arange(0, 320, 8.0), np.arange(0, 240, 8.0)), -1).reshape(-1, 2)
    turn, shift = np.array([[0.9, 0.05], [-0.05, 0.9]]), np.array([12.0, 7.0])
    moved, back = nodes @ turn + shift, (nodes - shift) @ np.linalg.inv(turn)
    noise = np.random.default_rng(0).uniform((0, 0), (320, 240), nodes.shape)
    assert count_consistent(nodes, moved, nodes, back) > 0.9 * len(nodes)
    half = np.where((np.arange(len(nodes)) % 2 == 0)[:, None], moved, noise)
    assert 0.4 * len(nodes) < count_consistent(nodes, half, nodes, back) < 0.6 * len(nodes)
    assert count_consistent(nodes, noise, nodes, noise[::-1]) == 0


def test_a_matcher_of_the_zoo_tells_views_from_others(photographs: Path) -> None:
    count = _verified_matches("sift")
    left = load_image(photographs / "motorcycle_left.png")
    others = [load_image(photographs / name) for name in ("rocket.jpg", "color.png")]
    assert count(left, load_image(photographs / "motorcycle_right.png")) > 1000
    assert max(count(left, other) for other in others) < 100


@pytest.mark.parametrize("damage", [b'{"query":', b"\x00\x00"])
def test_a_torn_last_line_is_dropped(work: Path, damage: bytes) -> None:
    path = work / CANDIDATES
    before = read_rows(path, Candidate)
    with path.open("ab") as file:
        file.write(damage)
    notes: list[str] = []
    assert read_rows(path, Candidate, notes.append) == before
    assert "torn" in notes[0]
    append_row(path, before[0])
    assert read_rows(path, Candidate) == [*before, before[0]]
