"""Decisions, agreement, choices made elsewhere, takedowns, the selection and what is built from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from refsr_bench.cli import cli
from refsr_bench.collectors.curation.build import Source, build_selection
from refsr_bench.collectors.curation.clean import Pool, read_pool
from refsr_bench.collectors.curation.decisions import (
    agreement,
    cohen_kappa,
    read_decisions,
    read_labels,
    record,
    standing,
)
from refsr_bench.collectors.curation.review import check_decision
from refsr_bench.collectors.curation.rows import CANDIDATES, DECISIONS, Candidate, Decision, now, read_rows, write_rows
from refsr_bench.collectors.curation.selection import accept, read_choices, read_selection
from refsr_bench.collectors.curation.takedowns import drop, without_taken_down
from refsr_bench.collectors.wr_sr import CARD
from refsr_bench.errors import IntegrityError, ItemsFailed, UsageError
from refsr_bench.store import open_dataset
from refsr_bench.verification import verify_dataset


def nothing(*values: object) -> None:
    """Hears progress and notes."""


def decision(number: int, reviewer: str, query: str, action: str, **more: Any) -> Decision:
    value = {"id": f"decision{number}", "time": now(), "reviewer": reviewer, "query": query, "action": action, **more}
    return Decision.model_validate(value)


@pytest.fixture
def pools(work: Path) -> list[Pool]:
    found = [read_pool(work, name) for name in ("chelsea", "coffee", "motorcycle_left")]
    return [pool for pool in found if pool is not None]


def sha(pools: list[Pool], query: str, rank: int) -> str:
    pool = next(pool for pool in pools if pool.query.name == query)
    return str(pool.rows[rank - 1].candidate.sha256)


def test_the_last_word_that_was_not_undone_holds() -> None:
    rows = [
        decision(1, "ann", "q", "choose", reference="a" * 64), decision(2, "ann", "q", "choose", reference="b" * 64),
        decision(3, "ann", "q", "tag", category="animal"), decision(4, "ann", "q", "undo", undoes="decision2"),
        decision(5, "bob", "q", "undo", undoes="decision1"), decision(6, "bob", "q", "reject", reason="no"),
    ]  # fmt: skip
    found = standing(rows)
    assert found["ann", "q"].verdict == rows[0]  # bob cannot undo what ann did
    assert found["ann", "q"].category == "animal"
    assert found["bob", "q"].verdict == rows[5]


def test_a_decision_that_is_sent_twice_counts_once(tmp_path: Path) -> None:
    row = decision(1, "ann", "q", "reject", reason="no")
    assert record(tmp_path / DECISIONS, row)
    assert not record(tmp_path / DECISIONS, row)
    assert read_decisions(tmp_path) == [row]


def test_agreement_by_hand() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: the worked example of Cohen's kappa, (0.7 - 0.5) / (1 - 0.5) = 0.4.
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([True, True], [True, True]) is None
    ref = ["a" * 64, "b" * 64]
    rows = [
        decision(1, "ann", "p", "choose", reference=ref[0]), decision(2, "bob", "p", "choose", reference=ref[0]),
        decision(3, "ann", "q", "choose", reference=ref[0]), decision(4, "bob", "q", "choose", reference=ref[1]),
        decision(5, "ann", "r", "reject", reason="x"), decision(6, "bob", "r", "reject", reason="y"),
        decision(7, "ann", "p", "tag", category="plant"), decision(8, "bob", "p", "tag", category="animal"),
    ]  # fmt: skip
    pair = agreement(rows, {"p": 10, "q": 10, "r": 10})[0]
    assert (pair.reviewers, pair.queries) == (("ann", "bob"), 3)
    assert pair.same_choice == pytest.approx(2 / 3)
    assert pair.usable_kappa == pytest.approx(1.0)
    observed, chance = 28 / 30, (2 / 30) ** 2 + (28 / 30) ** 2
    assert pair.candidate_kappa == pytest.approx((observed - chance) / (1 - chance))
    assert (pair.categories, pair.category_kappa) == (1, 0.0)


def test_reviewers_who_differ_make_a_dispute(pools: list[Pool]) -> None:
    first, second = sha(pools, "coffee", 1), sha(pools, "coffee", 2)
    rows = [
        decision(1, "ann", "coffee", "choose", reference=first, reason="same light"),
        decision(2, "bob", "coffee", "choose", reference=second),
        decision(3, "bob", "coffee", "tag", category="indoor"), decision(4, "ann", "chelsea", "reject", reason="none"),
    ]  # fmt: skip
    found = accept(pools, rows)
    assert (found.disputed, found.undecided) == (("coffee",), ("motorcycle_left",))
    assert [row.reference for row in found.rows] == [None]
    with pytest.raises(UsageError, match=r'of a reviewer \'anne\'\n  did you mean "ann"'):
        accept(pools, rows, prefer="anne")
    gone = [pool.model_copy(update={"rows": pool.rows[1:]}) for pool in pools]
    assert "coffee" in accept(gone, rows, prefer="ann").undecided
    chosen = {row.query: row for row in accept(pools, rows, prefer="ann").rows}["coffee"]
    assert chosen.reference is not None
    assert (chosen.reference.sha256, chosen.category, chosen.reason) == (first, "indoor", "same light")
    assert second in {picture.sha256 for picture in chosen.alternatives}
    assert chosen.reference.score is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "nowhere"}, "no query"), ({"reference": "0" * 64}, "not one of its candidates"),
        ({"action": "tag", "category": "car"}, "no category"), ({"action": "reject", "reason": " "}, "needs a reason"),
        ({"action": "undo"}, "undo names"), ({"reviewer": "a\x1b[2J"}, "reviewer"), ({"id": "../../x"}, "id"),
        ({"surprise": 1}, "surprise"), ({"reference": "<script>"}, "reference"),
    ],
)  # fmt: skip
def test_what_a_page_sends_is_checked(change: dict[str, Any], message: str) -> None:
    known = {"q": {"a" * 64}}
    value = {"id": "abcdefgh", "time": "x", "reviewer": "ann", "query": "q", "action": "choose", "reference": "a" * 64}
    assert check_decision(value, known).time.endswith("Z")  # a clock that is no clock is replaced
    with pytest.raises(ValueError, match=message):
        check_decision({**value, **change}, known)
    with pytest.raises(ValueError, match="dictionary"):
        check_decision("text", known)


def test_choices_made_elsewhere(pools: list[Pool], tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(
        "query,reference,reviewer,reason,category\n"
        "coffee,2,bob,,indoor\nmotorcycle_left,motorcycle_right.png,bob,,\nchelsea,,bob,nothing like it,animal\n"
    )
    rows = read_choices(table, pools)
    assert [row.action for row in rows] == ["choose", "tag", "choose", "reject", "tag"]
    assert rows[0].reference == sha(pools, "coffee", 2)
    assert [row.id for row in read_choices(table, pools)] == [row.id for row in rows]
    for text, message in (
        ("query,reference\ncofee,1\n", "line 2: there is no query 'cofee'"),
        ("query,reference\ncoffee,99\n", "line 2: coffee has no candidate '99'"),
        ("name\ncoffee\n", "must name the columns"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_choices(table, pools)
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"decisions": [json.loads(rows[0].model_dump_json())]}))
    assert read_choices(page, pools)[0].reference == rows[0].reference
    page.write_text("{")
    with pytest.raises(UsageError, match=r"page\.json"):
        read_choices(page, pools)


def test_labels_saved_by_a_static_page_are_taken_over(small_dataset: Path, tmp_path: Path) -> None:
    def curate(command: str, *arguments: object) -> str:
        given = ["curate", command, str(small_dataset), "--tags-only", *map(str, arguments)]
        return CliRunner().invoke(cli, given, catch_exceptions=False).output

    told = curate("review", "--static", tmp_path / "page")
    assert f"refsr-bench curate accept {small_dataset} --tags-only --choices FILE" in told
    saved = tmp_path / "decisions-bob.json"
    labels = [decision(1, "bob", "a", "tag", category="animal"), decision(2, "bob", "c", "tag", category="plant")]
    saved.write_text(json.dumps({"decisions": [row.model_dump() for row in labels]}))
    for _ in range(2):  # taken over once
        assert "small.labels.jsonl: 2 of 3 samples are labelled" in curate("accept", "--choices", saved)
    assert read_labels(small_dataset) == {"a": "animal", "c": "plant"}
    assert read_decisions(small_dataset.with_name("small.labels.jsonl")) == labels
    saved.write_text(saved.read_text().replace('"c"', '"nowhere"'))
    with pytest.raises(UsageError, match=r"decisions-bob\.json: there is no query 'nowhere'"):
        curate("accept", "--choices", saved)
    with pytest.raises(UsageError, match="which labels"):
        curate("accept")


@pytest.fixture
def selection(work: Path, pools: list[Pool]) -> Path:
    rows = [
        decision(1, "ann", "coffee", "choose", reference=sha(pools, "coffee", 1)),
        decision(2, "ann", "motorcycle_left", "choose", reference=sha(pools, "motorcycle_left", 1)),
        decision(3, "ann", "chelsea", "reject", reason="none of them"),
    ]
    write_rows(work / "selection.jsonl", list(accept(pools, rows).rows))
    return work / "selection.jsonl"


def test_a_selection_holds_everything_but_pixels(selection: Path) -> None:
    rows = read_selection(selection)
    assert [row.query for row in rows] == ["chelsea", "coffee", "motorcycle_left"]
    assert selection.stat().st_size < 20_000
    assert all(json.loads(line)["schema_version"] == 1 for line in selection.read_text().splitlines())
    selection.write_text(selection.read_text().replace('"schema_version":1', '"schema_version":2'))
    with pytest.raises(IntegrityError, match="line 1: schema_version"):
        read_selection(selection)


def test_the_dataset_is_built_from_files_by_their_hash(selection: Path, work: Path, tmp_path: Path) -> None:
    folders = [work / "pictures", work / "queries"]
    info = build_selection(CARD, selection, tmp_path / "a", Source(folders), progress=nothing, note=nothing)
    assert (info.samples, info.options["dropped"], info.options["gone"]) == (2, "1", "0")
    dataset = open_dataset(tmp_path / "a")
    assert verify_dataset(dataset, deep=True) == []
    coffee = next(record for record in dataset.records if "query coffee" in record.source)
    assert coffee.hr is not None
    assert max(coffee.refs[0].width, coffee.refs[0].height) <= max(coffee.hr.width, coffee.hr.height)
    motorcycle = next(record for record in dataset.records if "motorcycle" in record.source)
    assert "741x500 px unchanged" in motorcycle.made
    (tmp_path / "a" / "LICENCES.csv").write_text("changed")
    assert [problem.path for problem in verify_dataset(dataset)] == ["LICENCES.csv"]


def test_pairs_whose_pictures_are_gone_are_listed(selection: Path, work: Path, tmp_path: Path) -> None:
    (work / "queries" / "coffee.png").write_bytes(b"another file")
    folders = [work / "pictures", work / "queries"]
    with pytest.raises(ItemsFailed, match=r"1 of 2 pairs could not be:\n  coffee, query: coffee.png"):
        build_selection(CARD, selection, tmp_path / "a", Source(folders), progress=nothing, note=nothing)
    dataset = open_dataset(tmp_path / "a")
    assert dataset.info.samples == 1
    assert "coffee.png" in (tmp_path / "a" / "DATASHEET.md").read_text()
    with pytest.raises(IntegrityError, match="not one pair"):
        build_selection(CARD, selection, tmp_path / "b", Source([]), progress=nothing, note=nothing)
    assert not (tmp_path / "b").exists()


def test_a_takedown_takes_everything(selection: Path, work: Path) -> None:
    reference = read_selection(selection)[1].reference
    assert reference is not None
    dropped = drop(work, reference.sha256, "asked by the author")
    assert "coffee" in dropped.queries
    assert not list((work / "pictures").rglob(f"{reference.sha256}*"))
    assert not list((work / "thumbnails").rglob(f"{reference.sha256}*"))
    after = read_selection(selection)
    assert after[1].reference is None
    assert after[1].reason == "taken down on request"
    assert reference.sha256 not in selection.read_text()
    latest = {(row.query, row.key): row for row in read_rows(work / CANDIDATES, Candidate)}
    assert {row.status for row in latest.values() if row.sha256 == reference.sha256} == {"refused"}
    pool = read_pool(work, "coffee")  # judged before the takedown
    assert pool is not None
    assert reference.sha256 not in without_taken_down(work, [pool])[0].model_dump_json()
    drop(work, pool.query.sha256, "the query, too")
    assert without_taken_down(work, [pool]) == []
    assert not (work / pool.query.file).exists()
