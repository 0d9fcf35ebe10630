"""User studies: blinded and balanced plans, answers that cannot be broken, an analysis that finds the truth."""

from __future__ import annotations

import json
import math
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from refsr_bench.errors import IntegrityError, SignatureMismatch, UsageError
from refsr_bench.images import encode_png
from refsr_bench.results.rows import find_runs
from refsr_bench.results.study.analysis import analyse_study, as_dict, describe_analysis, rater_agreement
from refsr_bench.results.study.answers import Answer, Answers, append_answer, read_answers
from refsr_bench.results.study.create import Options, create_study, render_page
from refsr_bench.results.study.design import CONSENT, Key, Study, open_study, plan_comparisons, plan_sheets, sides_of
from refsr_bench.results.study.server import make_app
from refsr_bench.schema import Record
from refsr_bench.store import Dataset, add_image, building, open_dataset, seal
from tests.results.synthetic import write_run

TOKEN = "t" * 32
OPTIONS = Options("Title", "Better?", CONSENT, samples=8, sheets=6, per_sheet=12, checks=2, all_pairs=False, seed=1)


def make_dataset(folder: Path, samples: int) -> Dataset:
    rng = np.random.default_rng(0)
    with building(folder) as root:
        records = []
        for i in range(samples):
            smooth = PilImage.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((32, 24))
            records.append(
                Record(
                    name=f"{i:03}",
                    hr=add_image(root, f"hr/{i:03}.png", encode_png(np.asarray(smooth))),
                    source="random",
                    licence="CC0",
                    made="drawn",
                )
            )
        seal(root, records, name="d", version="1", title="", licence="CC0", citation="", builder_version="1")
    return open_dataset(folder)


def make_runs(root: Path, dataset: Dataset, models: list[str]) -> list[Any]:
    for k, model in enumerate(models):
        write_run(root / str(k), model, [20.0 + k] * len(dataset.records), dataset=dataset.info.id)
        (root / str(k) / "sr").mkdir()
        for record in dataset.records:
            picture = np.full((24, 32, 3), 30 * k, np.uint8)
            (root / str(k) / "sr" / f"{record.name}.png").write_bytes(encode_png(picture))
    return [run for k in range(len(models)) for run in find_runs([root / str(k)])]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, Key]:
    root = tmp_path_factory.mktemp("study")
    dataset = make_dataset(root / "data", 10)
    runs = make_runs(root / "runs", dataset, ["ours", "theirs", "bicubic"])
    return root / "study", *create_study(root / "study", runs, dataset, OPTIONS)


def answer(study: Study, sheet: int, position: int, rater: str, choice: str) -> Answer:
    shown = study.sheets[sheet][position]
    pictures = next(pair.pictures for pair in study.pairs if pair.id == shown.pair)
    return Answer(
        study=study.id,
        rater=rater,
        sheet=sheet,
        pair=shown.pair,
        left=pictures[shown.left],
        right=pictures[1 - shown.left],
        choice=choice,  # type: ignore[arg-type]
        seconds=2.0,
    )


def vote(study: Study, key: Key, rng: random.Random, strengths: dict[str, float], raters: int) -> Answers:
    """Simulated raters who choose by known strengths and never fail a check."""
    answers = []
    for r in range(raters):
        sheet = r % len(study.sheets)
        for position, shown in enumerate(study.sheets[sheet]):
            truth = key.pairs[shown.pair]
            left, right = truth.methods[shown.left], truth.methods[1 - shown.left]
            gap = 99 * (left == "hr") - 99 * (right == "hr") if truth.check else strengths[left] - strengths[right]
            choice = "left" if rng.random() < 1 / (1 + math.exp(-gap)) else "right"
            answers.append(answer(study, sheet, position, f"{r:016x}", choice))
    return Answers(tuple(answers), Counter())


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [2, 3, 5])
@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize(
    ("samples", "sheets", "per_sheet"),
    [(30, 20, 40), (20, 7, 4), (20, 12, 20), (7, 9, 5), (10, 8, 31), (1, 5, 3), (3, 1, 50), (5, 40, 1), (6, 11, 6)],
)
def test_sheets_are_balanced(methods: int, all_pairs: bool, samples: int, sheets: int, per_sheet: int) -> None:
    """Any set of showings that a rater or an analysis looks at has the duels' first methods left and right alike."""
    rng = random.Random(3)
    names = [f"m{i}" for i in range(methods)]
    comparisons = plan_comparisons(names, [str(s) for s in range(samples)], all_pairs=all_pairs)
    pairs = [(f"{'-'.join(c.methods)}-{c.sample}", c.methods, rng.choice([0, 1])) for c in comparisons]
    first, duels = ({name: given[i] for name, *given in pairs} for i in (1, 0))
    planned = plan_sheets(pairs, ["check0", "check1"], sheets=sheets, per_sheet=per_sheet, rng=rng)  # type: ignore[arg-type]
    lead: Counter[object] = Counter()  # of a set of showings: how often the first method was left, less right
    times: Counter[str] = Counter(dict.fromkeys(first, 0))
    for number, sheet in enumerate(planned):
        shown = [each for each in sheet if each.pair in first]
        assert len({each.pair for each in sheet}) == len(sheet) == min(per_sheet, len(pairs)) + 2
        assert sheet[0] in shown
        share = Counter(dict.fromkeys(duels.values(), 0))
        for each in shown:
            duel = duels[each.pair]
            times[each.pair] += 1
            share[duel] += 1
            sets = ["all", duel[0], duel, each.pair, number, (number, duel[0]), (number, duel)]
            lead.update(dict.fromkeys(sets, 1 if each.left == first[each.pair] else -1))
        assert max(share.values()) - min(share.values()) <= 1
    assert max(times.values()) - min(times.values()) <= 1
    assert {abs(count) for count in lead.values()} <= {0, 1}


def test_a_study_is_blinded(made: tuple[Path, Study, Key]) -> None:
    folder, study, key = made
    public = [folder / "study.json", *(file for file in (folder / "public").rglob("*") if file.is_file())]
    for file in public:
        text = file.read_bytes() + file.name.encode()
        assert not any(word in text for word in (b"ours", b"theirs", b"bicubic", b"degraded", b"000.png"))
    comparisons = [truth for truth in key.pairs.values() if not truth.check]
    assert len(comparisons) == 16
    assert 2 < sum(truth.methods[0] == "ours" for truth in comparisons) < 14, "order within a pair must say nothing"
    pictures = sorted(file.stem for file in (folder / "public" / "img").iterdir())
    assert pictures == sorted(token for pair in study.pairs for token in pair.pictures)
    assert (folder / "key.json").stat().st_mode & 0o077 == 0
    sides = sides_of(study, key)
    assert all(abs(sides[duel, True] - sides[duel, False]) <= 1 for duel, _ in sides)


def test_pictures_are_the_methods_own(made: tuple[Path, Study, Key]) -> None:
    folder, _, key = made
    grey = {"ours": 0, "theirs": 30, "bicubic": 60}
    for truth in key.pairs.values():
        for method, token in zip(truth.methods, truth.tokens, strict=True):
            pixels = np.asarray(PilImage.open(folder / "public" / "img" / f"{token}.png"))
            if not truth.check:
                assert (pixels == grey[method]).all()
    checks = [truth for truth in key.pairs.values() if truth.check]
    assert len(checks) == 2
    assert {frozenset(truth.methods) for truth in checks} == {frozenset(("hr", "degraded"))}


def test_a_study_is_refused_where_it_would_mislead(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 4)
    runs = make_runs(tmp_path / "runs", dataset, ["a", "b"])
    create_study(tmp_path / "study", runs, dataset, OPTIONS)
    with pytest.raises(UsageError, match="no study is written over them"):
        create_study(tmp_path / "study", runs, dataset, OPTIONS)
    with pytest.raises(UsageError, match="same model"):
        create_study(tmp_path / "other", [runs[0], runs[0]], dataset, OPTIONS)
    matcher = runs[1]._replace(info=runs[1].info.model_copy(update={"scored": ("matches",)}))
    with pytest.raises(UsageError, match="1: is the run of a matcher, which holds no pictures"):
        create_study(tmp_path / "other", [runs[0], matcher], dataset, OPTIONS)
    elsewhere = make_dataset(tmp_path / "data2", 3)
    foreign = make_runs(tmp_path / "runs2", elsewhere, ["c"])
    with pytest.raises(SignatureMismatch):
        create_study(tmp_path / "other", [runs[0], *foreign], dataset, OPTIONS)


def test_a_changed_key_or_a_newer_study_is_refused(made: tuple[Path, Study, Key], tmp_path: Path) -> None:
    folder, study, key = made
    (tmp_path / "study.json").write_bytes((folder / "study.json").read_bytes())
    (tmp_path / "key.json").write_text(key.model_copy(update={"target": "theirs"}).model_dump_json())
    with pytest.raises(IntegrityError, match="not the key"):
        open_study(tmp_path)
    newer = json.loads(study.model_dump_json()) | {"schema_version": 99}
    (tmp_path / "study.json").write_text(json.dumps(newer))
    with pytest.raises(IntegrityError, match="newer version"):
        open_study(tmp_path)


def test_hostile_texts_are_inert_on_the_page(made: tuple[Path, Study, Key]) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    page = render_page(
        made[1].model_copy(update={"title": hostile, "question": hostile, "consent": hostile}), served=False
    )
    assert page.count("<script") == 2
    assert "<img src=x" not in page


# --- answers -------------------------------------------------------------------------------------------------------


def test_answers_are_only_appended_and_survive_a_cut_line(made: tuple[Path, Study, Key], tmp_path: Path) -> None:
    _, study, _ = made
    first, second = (answer(study, 0, i, "a" * 16, "left") for i in (0, 1))
    append_answer(tmp_path, first)
    before = (tmp_path / "answers.jsonl").read_bytes()
    with (tmp_path / "answers.jsonl").open("ab") as file:
        file.write(b'{"study": "killed he')
    append_answer(tmp_path, second)
    assert (tmp_path / "answers.jsonl").read_bytes().startswith(before)
    found = read_answers(tmp_path, study)
    assert found.valid == (first, second)
    assert found.rejected == {"not JSON": 1}


def test_broken_foreign_and_repeated_answers_are_counted(made: tuple[Path, Study, Key], tmp_path: Path) -> None:
    _, study, _ = made
    good = answer(study, 0, 0, "a" * 16, "left").model_dump()
    bad: list[Any] = [
        good,
        good | {"choice": "right"},  # a second thought does not replace the first
        good | {"rater": "b" * 16, "left": good["right"], "right": good["left"]},
        good | {"rater": "b" * 16, "study": "another"},
        good | {"rater": "b" * 16, "sheet": 999},
        good | {"rater": "<script>alert(1)</script>"},
        good | {"rater": "b" * 16, "seconds": -1},
        good | {"rater": "b" * 16, "name": "Ann"},
        ["=cmd()"],
        None,
    ]
    file = tmp_path / "saved.json"
    file.write_text(json.dumps({"study": study.id, "answers": bad}))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "other.json").write_text('{"answers": 3}')
    found = read_answers(tmp_path, study, [file, tmp_path / "deep.json", tmp_path / "other.json"])
    assert [a.choice for a in found.valid] == ["left"]
    assert found.rejected == {
        "answered twice": 1,
        "sides that are not the sheet's": 1,
        "another study": 1,
        "no such sheet": 1,
        "not an answer": 5,
        "not a file of answers": 2,
    }


# --- analysis ------------------------------------------------------------------------------------------------------


def test_known_strengths_are_recovered(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 10)
    runs = make_runs(tmp_path / "runs", dataset, ["a", "b", "c", "d"])
    options = OPTIONS._replace(samples=10, per_sheet=60, sheets=40, all_pairs=True)
    study, key = create_study(tmp_path / "study", runs, dataset, options)
    truth = {"a": 1.0, "b": 0.3, "c": -0.2, "d": -1.1}
    analysis = analyse_study(key, vote(study, key, random.Random(0), truth, 40), draws=100)
    assert [s.method for s in analysis.strengths] == ["a", "b", "c", "d"]
    for strength in analysis.strengths:
        assert strength.value == pytest.approx(truth[strength.method], abs=0.2)
        assert strength.low < strength.value < strength.high
    assert sum(s.value for s in analysis.strengths) == pytest.approx(0, abs=1e-9)
    wins = {(p.first, p.second): p.preferred / p.of for p in analysis.preferences}
    assert wins["a", "d"] == pytest.approx(1 / (1 + math.exp(-2.1)), abs=0.06)
    assert analysis.left_share is not None
    assert analysis.left_share[1] <= 0.5 <= analysis.left_share[2]
    assert all(p.low <= p.preferred / p.of <= p.high for p in analysis.preferences)


def test_inattentive_raters_are_left_out(made: tuple[Path, Study, Key]) -> None:
    _, study, key = made
    good = vote(study, key, random.Random(0), {"ours": 1, "theirs": 0, "bicubic": -1}, 4)
    wrong = []
    for position in range(len(study.sheets[4])):  # chooses left, but where HR stands left
        given = answer(study, 4, position, "f" * 16, "left")
        truth = key.pairs[given.pair]
        hr_is_left = truth.methods[truth.tokens.index(given.left)] == "hr"
        wrong.append(given.model_copy(update={"choice": "right" if hr_is_left else "left"}))
    analysis = analyse_study(key, Answers((*good.valid, *wrong), Counter()), draws=20)
    assert analysis.left_out == ("f" * 16,)
    assert analysis.raters == 4
    assert analyse_study(key, Answers((*good.valid, *wrong), Counter()), allowed_failures=2, draws=20).raters == 5
    assert any("1 raters failed attention checks" in sentence for sentence in describe_analysis(analysis))


def test_one_sided_and_empty_studies_say_so(made: tuple[Path, Study, Key]) -> None:
    _, study, key = made
    everything = vote(study, key, random.Random(0), {"ours": 99, "theirs": 0, "bicubic": -99}, 3)
    analysis = analyse_study(key, everything, draws=20)
    assert analysis.strengths == ()
    assert "no finite strengths" in (analysis.no_strengths or "")
    assert all(p.preferred == p.of for p in analysis.preferences)
    nobody = analyse_study(key, Answers((), Counter()))
    assert nobody.preferences == ()
    assert json.loads(json.dumps(as_dict(nobody), allow_nan=False))["no_strengths"] == "there are no answers"


def test_agreement() -> None:
    assert rater_agreement([["a", "a", "a"], ["b", "b", "b"]]) == (1, 1)
    # Krippendorff's nominal alpha by hand: observed 2/4 of 6 values, expected 2*3*3/5 = 3.6 of 6 ordered.
    agreement, alpha = rater_agreement([["a", "a"], ["b", "b"], ["a", "b"]])
    assert agreement == pytest.approx(2 / 3)
    assert alpha == pytest.approx(1 - 2 / 3.6)
    assert rater_agreement([["a"], ["b"]]) == (None, None)
    rng = np.random.default_rng(0)
    chance = rater_agreement([rng.choice(["a", "b"], 10).tolist() for _ in range(400)])
    assert chance[1] == pytest.approx(0, abs=0.03)


# --- serving -------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(made: tuple[Path, Study, Key], tmp_path: Path) -> tuple[Any, Path, Study]:
    folder, study, _ = made
    copy = tmp_path / "served"
    copy.mkdir()
    (copy / "public").symlink_to(folder / "public")
    for name in ("study.json", "key.json"):
        (copy / name).write_bytes((folder / name).read_bytes())
    client = make_app(copy, TOKEN).test_client()
    assert client.get(f"/?token={TOKEN}").status_code == 303
    return client, copy, study


def test_the_server_gives_sheets_and_takes_answers_once(served: tuple[Any, Path, Study]) -> None:
    client, folder, study = served
    raters = [client.post("/begin", json={}).json for _ in range(len(study.sheets))]
    assert sorted(rater["sheet"] for rater in raters) == list(range(len(study.sheets)))
    one = raters[0]
    given = answer(study, one["sheet"], 0, one["rater"], "left").model_dump()
    assert client.post("/answers", json=given).status_code == 200
    assert client.post("/answers", json=given | {"choice": "right"}).json == {"error": "answered already"}
    assert client.post("/answers", json=given | {"rater": raters[1]["rater"]}).status_code == 409
    assert client.post("/answers", json=given | {"rater": "../../etc"}).status_code == 400
    assert client.post("/answers", data="x" * 2_000_000).status_code in {400, 413}
    again = make_app(folder, TOKEN).test_client()  # a restarted server knows its raters
    again.get(f"/?token={TOKEN}")
    assert again.post("/begin", json={"rater": one["rater"]}).json == one | {"done": [given["pair"]]}
    assert len(read_answers(folder, study).valid) == 1


def test_a_restarted_server_takes_the_answers_of_raters_who_had_only_begun(served: tuple[Any, Path, Study]) -> None:
    client, folder, study = served
    rater = client.post("/begin", json={}).json
    again = make_app(folder, TOKEN).test_client()
    again.get(f"/?token={TOKEN}")
    given = [answer(study, rater["sheet"], i, rater["rater"], "left").model_dump() for i in (0, 1)]
    assert [again.post("/answers", json=each).status_code for each in given] == [200, 200]
    other = answer(study, rater["sheet"] + 1, 0, rater["rater"], "left").model_dump()
    assert again.post("/answers", json=other).json == {"error": "this rater was given another sheet"}
    assert len(read_answers(folder, study).valid) == 2


def test_the_server_shows_nothing_else(served: tuple[Any, Path, Study], made: tuple[Path, Study, Key]) -> None:
    client, folder, study = served
    assert client.get("/").status_code == 200
    token = study.pairs[0].pictures[0]
    with client.get(f"/img/{token}.png") as picture:
        assert picture.mimetype == "image/png"
    for path in ("/key.json", "/img/..%2f..%2fkey.json.png", "/img/nothing.png", "/answers.jsonl", "/study.json"):
        assert client.get(path).status_code == 404, path
    stranger = make_app(folder, TOKEN).test_client()
    assert stranger.get("/").status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/begin", json={}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert b"ours" not in client.get("/").data


def test_many_raters_at_once_lose_nothing(served: tuple[Any, Path, Study]) -> None:
    _, folder, study = served
    app = make_app(folder, TOKEN)

    def rate() -> None:
        client = app.test_client()
        client.get(f"/?token={TOKEN}")
        rater = client.post("/begin", json={}).json
        for position in range(len(study.sheets[rater["sheet"]])):
            given = answer(study, rater["sheet"], position, rater["rater"], "right").model_dump()
            assert client.post("/answers", json=given).status_code == 200

    threads = [threading.Thread(target=rate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_answers(folder, study)
    assert len(found.valid) == sum(len(sheet) for sheet in study.sheets)
    assert not found.rejected
