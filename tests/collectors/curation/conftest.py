"""A curation folder of real photographs, searched and cleaned, for the tests of what follows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from refsr_bench.collectors.curation.answers import Manners
from refsr_bench.collectors.curation.clean import Rules, clean_pools
from refsr_bench.collectors.curation.providers import local_folder
from refsr_bench.collectors.curation.queries import take_folder
from refsr_bench.collectors.curation.rows import QUERIES, Query, read_rows
from refsr_bench.collectors.curation.search import Plan, gather_candidates, searching
from refsr_bench.collectors.curation.web import Web
from refsr_bench.images import encode_png, load_image

NAMES = ("motorcycle_left.png", "coffee.png", "chelsea.png")
POOL = ("motorcycle_right.png", "astronaut.png", "rocket.jpg", "color.png", "retina.jpg")


def nothing(*values: object) -> None:
    """Hears progress and notes."""


@pytest.fixture(scope="session")
def cleaned(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """Three queries with five to seven candidates each, one of them a mirrored copy of the query chelsea."""
    home = tmp_path_factory.mktemp("curation")
    queries, pool, work = home / "queries", home / "pool", home / "work"
    queries.mkdir()
    pool.mkdir()
    for name in NAMES:
        shutil.copy(photographs / name, queries)
    for name in POOL:
        shutil.copy(photographs / name, pool)
    chelsea = load_image(photographs / "chelsea.png")
    (pool / "mirrored.png").write_bytes(encode_png(np.ascontiguousarray(chelsea[20:, ::-1])))
    shutil.copy(photographs / "ihc.png", pool / "&lt;b onclick=alert(1)&gt;ihc.png")
    (pool / "tiny.png").write_bytes(encode_png(chelsea[:100, :100]))
    (pool / "broken.png").write_bytes((photographs / "coffee.png").read_bytes()[:9000])
    take_folder(work, queries, {}, "cc0-1.0", nothing)
    plan = Plan({"local-folder": local_folder.PROVIDER}, source=pool, source_licence="CC0")
    with searching(work):
        gather_candidates(
            work, read_rows(work / QUERIES, Query), plan, Web(Manners("")), progress=nothing, note=nothing
        )
    clean_pools(work, read_rows(work / QUERIES, Query), Rules(), jobs=2, progress=nothing)
    return work


@pytest.fixture
def work(cleaned: Path, tmp_path: Path) -> Path:
    """A copy of the cleaned folder to work in."""
    return Path(shutil.copytree(cleaned, tmp_path / "work"))
