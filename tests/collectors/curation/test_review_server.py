"""The review's server without a browser: what it gives, what it refuses, many decisions at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from refsr_bench.collectors.curation.clean import read_pool
from refsr_bench.collectors.curation.decisions import read_decisions
from refsr_bench.collectors.curation.review import Review, make_app, review_pools, write_static
from refsr_bench.collectors.curation.rows import DECISIONS
from refsr_bench.errors import UsageError

TOKEN = "t" * 32
HERE = {"base_url": "http://127.0.0.1:8000"}


@pytest.fixture
def review(work: Path) -> Review:
    pools = [read_pool(work, name) for name in ("coffee", "chelsea")]
    return review_pools(work, [pool for pool in pools if pool is not None], work / DECISIONS)


def opened(review: Review) -> FlaskClient:
    client = make_app(review, TOKEN).test_client()
    assert client.get(f"/?token={TOKEN}", **HERE).status_code == 303
    return client


def test_only_pictures_of_the_review_are_given(review: Review) -> None:
    client = opened(review)
    sha256 = review.items[0].facts["sha256"]
    picture = client.get(f"/picture/small/{sha256}", **HERE)
    assert (picture.status_code, picture.mimetype) == (200, "image/jpeg")
    assert "script-src 'self'" in picture.headers["Content-Security-Policy"]
    for path in (
        "/picture/small/" + "0" * 64, f"/picture/huge/{sha256}", "/picture/small/../../decisions.jsonl",
        "/picture/..%2f..%2f/etc/passwd", "/picture/small/%2e%2e%2fqueries.jsonl", "/review.html", "/static/x",
    ):  # fmt: skip
        assert client.get(path, **HERE).status_code == 404, path


def test_a_static_page_replaces_an_earlier_one_and_nothing_else(review: Review, tmp_path: Path) -> None:
    def write() -> Path:
        return write_static(review, tmp_path / "page", 1, lambda done, total: None)

    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("my home page")
    with pytest.raises(UsageError, match="holds other files, no review page is written over them"):
        write()
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
    (tmp_path / "page" / "index.html").unlink()
    index = write()
    (tmp_path / "page" / "pictures" / "small" / "old.jpg").touch()
    assert write() == index
    assert not (tmp_path / "page" / "pictures" / "small" / "old.jpg").exists()
    (tmp_path / "page" / "decisions-bob.json").touch()  # saved beside the page: not ours to delete
    with pytest.raises(UsageError, match="holds other files"):
        write()


def test_wrong_decisions_are_refused_in_words(review: Review) -> None:
    client = opened(review)
    for value in (None, [], {"id": "x"}, "text"):
        answer = client.post("/decide", json=value, **HERE)
        assert answer.status_code == 400
        assert "Traceback" not in answer.get_data(as_text=True)
    assert client.post("/decide", data=b"x" * 2_000_000, content_type="application/json", **HERE).status_code in (
        400,
        413,
    )
    assert client.get("/data", **HERE).status_code == 400
    assert not (review.journal).exists()


def test_400_decisions_at_once_are_all_there(review: Review) -> None:
    app = make_app(review, TOKEN)
    reference = review.items[0].candidates[0][1]["sha256"]

    def send(number: int) -> int:
        client = app.test_client()
        client.get(f"/?token={TOKEN}", **HERE)
        value: dict[str, Any] = {
            "id": f"decision-{number // 2:04d}", "time": "", "reviewer": f"r{number % 4 // 2}", "query": "coffee",
            "action": "choose", "reference": reference,
        }  # fmt: skip
        return client.post("/decide", json=value, **HERE).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(400))) == {200}
    decisions = read_decisions(review.journal)
    assert len(decisions) == 200  # each was sent twice
    assert len({row.id for row in decisions}) == 200
