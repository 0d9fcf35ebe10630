"""The commands as a user meets them: what they print, how they end, what they leave behind."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image as PilImage

from refsr_bench.images import encode_png, load_image
from refsr_bench.schema import Record
from refsr_bench.store import INFO_NAME, MANIFEST_NAME, add_image, building, seal

COMMAND = [sys.executable, "-m", "refsr_bench"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object, cwd: Path | None = None) -> Result:
    done = subprocess.run(
        [*COMMAND, *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"REFSR_NO_PROGRESS": "1"},
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def run_json(*arguments: object, cwd: Path | None = None) -> dict:  # type: ignore[type-arg]
    result = run(*arguments, "--json", cwd=cwd)
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def scene(tmp_path: Path, photographs: Path) -> Path:
    """A folder of four overlapping photographs of one scene."""
    picture = load_image(photographs / "coffee.png")
    folder = tmp_path / "scene"
    folder.mkdir()
    for i in range(4):
        (folder / f"view{i}.png").write_bytes(encode_png(picture[20 * i : 20 * i + 120, 100 : 260 + 8 * i]))
    return folder


# --- the main job -------------------------------------------------------------------------------------------------


def test_demo_from_build_to_leaderboard(tmp_path: Path) -> None:
    built = run("build", "demo")
    assert built.code == 0, built.err
    assert "21 samples (7 two-view, 7 upper-bound, 7 unrelated)" in built.out
    again = run("build", "demo")
    assert (again.code, "already built and verifies" in again.err) == (0, True)
    assert run("verify", "demo").code == 0
    evaluated = run("eval", "bicubic", "--dataset", "demo", cwd=tmp_path)
    assert evaluated.code == 0, evaluated.err
    assert "restored images: runs/demo/bicubic/c2-2021/first/sr" in evaluated.out
    board = run("leaderboard", cwd=tmp_path)
    for expected in ("two-view", "upper-bound", "unrelated", "psnr_y|data:demo@", "|ref:first|", "inf:cap100"):
        assert expected in board.out
    assert "built: demo@" in run("list", "datasets").out
    signature = run_json("leaderboard", cwd=tmp_path)[0]["lines"][0]["cells"][0]["signature"]  # type: ignore[index]
    assert "BT.601" in run("explain", signature).out


def test_custom_scene_then_the_same_numbers_from_score(scene: Path, tmp_path: Path) -> None:
    assert run("build", "custom", scene, "--out", tmp_path / "set").code == 0
    first = run_json("eval", "bicubic", "--dataset", tmp_path / "set", "--out", tmp_path / "run")
    assert first["run"]["samples"] == 4
    assert not first["failed"]
    second = run_json(
        "score", tmp_path / "run" / "sr", "--dataset", tmp_path / "set", "--name", "bicubic", "--out", tmp_path / "s"
    )
    assert first["tables"][0]["lines"][0]["cells"] == second["tables"][0]["lines"][0]["cells"]
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == (tmp_path / "s" / "rows.jsonl").read_bytes()


def test_sacre_coeur_every_photograph_is_scored(dev_data: Path, tmp_path: Path) -> None:
    photographs = dev_data / "refsr_pairs" / "sacre_coeur"
    built = run("build", "custom", photographs, "--out", tmp_path / "set")
    assert built.code == 0, built.err
    assert "10 samples" in built.out
    assert "README.md" in built.err
    evaluated = run_json("eval", "bicubic", "--dataset", tmp_path / "set", "--out", tmp_path / "run")
    assert evaluated["run"]["samples"] == 10
    assert not evaluated["failed"]
    run_json(
        "score", tmp_path / "run" / "sr", "--dataset", tmp_path / "set", "--name", "bicubic", "--out", tmp_path / "s"
    )
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == (tmp_path / "s" / "rows.jsonl").read_bytes()


def test_published_outputs_through_score(dev_data: Path, tmp_path: Path) -> None:
    published = dev_data / "published_c2"
    (tmp_path / "in" / "input").mkdir(parents=True)
    (tmp_path / "sr").mkdir()
    for number, photograph in (("031", "24004"), ("058", "56028")):
        (tmp_path / "in/input" / f"{number}.jpg").write_bytes((published / f"WR-SR/gt/{photograph}.jpg").read_bytes())
        output = f"{number}_C2_matching_mse.png"
        (tmp_path / "sr" / output).write_bytes((published / "WR-SR/author_outputs" / output).read_bytes())
    assert run("build", "custom", tmp_path / "in", "--out", tmp_path / "set").code == 0
    run_json(
        "score",
        tmp_path / "sr",
        "--dataset",
        tmp_path / "set",
        "--pattern",
        "{name}_C2_matching_mse.png",
        "--out",
        tmp_path / "run",
    )
    rows = [json.loads(line) for line in (tmp_path / "run/rows.jsonl").read_text().splitlines()]
    values = {(row["sample"], row["metric"]): row["value"] for row in rows}
    assert f"{values['031', 'psnr_y']:.2f}/{values['031', 'ssim_y']:.4f}" == "24.91/0.7663"
    assert f"{values['058', 'psnr_y']:.2f}/{values['058', 'ssim_y']:.4f}" == "25.37/0.6701"
    assert "|ref:none|" in rows[0]["signature"]


def test_limit_extends_and_is_in_the_signature(small_dataset: Path, tmp_path: Path) -> None:
    arguments = ("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert "|n:1|" in run(*arguments, "--limit", "1").out
    first = (tmp_path / "run" / "sr" / "a.png").stat().st_mtime_ns
    assert "|n:3|" in run(*arguments).out
    assert (tmp_path / "run" / "sr" / "a.png").stat().st_mtime_ns == first


# --- what is there already ------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_made_smaller(small_dataset: Path, tmp_path: Path) -> None:
    arguments = ("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert run(*arguments).code == 0
    rows = (tmp_path / "run" / "rows.jsonl").read_bytes()
    result = run(*arguments, "--limit", "1")
    assert (result.code, "holds a finished run of 3 samples" in result.err) == (2, True), result
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == rows
    assert "|n:1|" in run(*arguments, "--limit", "1", "--overwrite").out


def test_what_a_run_was_scored_by_stays(tmp_path: Path) -> None:
    assert run("build", "demo").code == 0
    arguments = ("eval", "c2matching-small", "--dataset", "demo", "--limit", 1, "--out")
    alone = run_json(*arguments, tmp_path / "ttsr-2020", "--protocol", "ttsr-2020")["run"]
    assert "aee" in alone["signatures"]
    assert run(*arguments, tmp_path, "--protocol", "c2-2021,ttsr-2020").code == 0
    both = json.loads((tmp_path / "ttsr-2020" / "run.json").read_text())
    assert both["signatures"]["aee"] == alone["signatures"]["aee"]


def test_pictures_are_not_scored_into_their_own_folder(small_dataset: Path, tmp_path: Path) -> None:
    assert run("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "run").code == 0
    before = tree(tmp_path / "run")
    arguments = ("score", tmp_path / "run" / "sr", "--dataset", small_dataset, "--out", tmp_path / "run")
    for more in ((), ("--overwrite",)):
        result = run(*arguments, *more)
        assert (result.code, "holds the pictures themselves" in result.err) == (2, True), result
    assert tree(tmp_path / "run") == before


def test_a_place_that_cannot_be_used_is_named(small_dataset: Path) -> None:
    result = run("eval", "bicubic", "--dataset", small_dataset, "--out", "/dev/null/run")
    assert (result.code, "/dev/null/run: cannot be used" in result.err) == (4, True), result


# --- many protocols -----------------------------------------------------------------------------------------------


def test_every_protocol_and_what_its_choices_are_worth(small_dataset: Path, tmp_path: Path) -> None:
    arguments = ("eval", "bicubic", "--dataset", small_dataset, "--protocol", "all", "--out", tmp_path / "all")
    result = run(*arguments, "--json")
    assert result.code == 0, result
    effects = json.loads(result.out)["effects"]
    psnr = {effect["protocol"]: effect for effect in effects if effect["metric"].startswith("psnr")}
    assert next(iter(psnr)) == "c2-2021"
    assert psnr["c2-2021"]["difference"] == 0
    assert psnr["c2-2021+ch=y601full"]["difference"] == pytest.approx(20 * math.log10(219 / 255), abs=1e-9)
    assert psnr["mmagic-rgb"]["metric"] == "psnr_rgb"
    assert psnr["amsa-2022"]["changed"] == "mod:crop32"
    assert len({effect["signature"] for effect in effects}) == len(effects)
    again = run(*arguments)
    assert again.code == 0, again
    assert "cannot be ranked together" in again.out
    assert "-1.3219" in again.out


def test_protocols_cannot_be_ranked_together(small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    both = ("--protocol", "c2-2021,ttsr-2020")
    assert run("eval", "bicubic", "--dataset", small_dataset, *both, "--out", out).code == 0
    assert run("leaderboard", out).out.count("| bicubic") == 2 * 3  # a table each: all and two groups
    assert run("leaderboard", out / "c2-2021", "--one-table").code == 0
    refused = run("leaderboard", out, "--one-table")
    assert_one_clear_line(refused, 7, "pad: own, zero2ref", "crop: 0, 4", "ch: y601studio, y601ttsr")
    assert_one_clear_line(run("compare", out / "c2-2021", out / "ttsr-2020"), 7, "pad is")


# --- bad input: one clear line, the right code, nothing half-written ---------------------------------------------


def assert_one_clear_line(result: Result, code: int, *parts: str) -> None:
    assert result.code == code, result
    assert not result.out
    assert result.err.startswith("refsr-bench: ") or code == 2
    for part in parts:
        assert part in result.err, result.err


def test_truncated_jpeg(scene: Path, tmp_path: Path, photographs: Path) -> None:
    data = (photographs / "rocket.jpg").read_bytes()
    (scene / "rocket.jpg").write_bytes(data[: len(data) // 2])
    result = run("build", "custom", scene, "--out", tmp_path / "set")
    assert_one_clear_line(result, 4, "rocket.jpg", "truncated or damaged")
    assert not list(tmp_path.glob("*set*/*"))


def test_bomb(scene: Path, tmp_path: Path) -> None:
    PilImage.new("1", (20000, 20000)).save(scene / "bomb.png")
    result = run("build", "custom", scene, "--out", tmp_path / "set")
    assert_one_clear_line(result, 4, "bomb.png", "refused before decoding")
    assert not (tmp_path / "set").exists()


def test_text_named_png(scene: Path, tmp_path: Path) -> None:
    (scene / "note.png").write_text("hello")
    assert_one_clear_line(run("build", "custom", scene, "--out", tmp_path / "set"), 4, "note.png", "not a picture")
    assert not (tmp_path / "set").exists()


def test_one_pixel_picture(scene: Path, tmp_path: Path) -> None:
    (scene / "dot.png").write_bytes(encode_png(np.zeros((1, 1, 3), np.uint8)))
    result = run("build", "custom", scene, "--out", tmp_path / "set")
    assert result.code in (2, 4)
    assert_one_clear_line(result, result.code, "dot.png", "1x1")
    assert not (tmp_path / "set").exists()


def test_exif_rotated_pair(dev_data: Path, tmp_path: Path) -> None:
    pair = dev_data / "refsr_pairs" / "camerafusion"
    (tmp_path / "pair" / "input").mkdir(parents=True)
    (tmp_path / "pair" / "ref").mkdir()
    for source, target in (("HR", "input"), ("Ref", "ref")):
        (tmp_path / "pair" / target / "IMG_20.jpg").write_bytes((pair / source / "IMG_20.jpg").read_bytes())
    assert run("build", "custom", tmp_path / "pair", "--out", tmp_path / "set").code == 0
    assert "EXIF orientation applied" in (tmp_path / "set" / MANIFEST_NAME).read_text()


def test_missing_reference(tmp_path: Path) -> None:
    (tmp_path / "in" / "input").mkdir(parents=True)
    (tmp_path / "in" / "ref").mkdir()
    for path in ("input/a.png", "input/b.png", "ref/a.png"):
        value = 10 * len(path) + ord(path[-5])
        (tmp_path / "in" / path).write_bytes(encode_png(np.full((64, 64, 3), value, np.uint8)))
    result = run("build", "custom", tmp_path / "in", "--out", tmp_path / "set")
    assert result.code in (2, 4)
    assert_one_clear_line(result, result.code, "b")
    assert not (tmp_path / "set").exists()


def test_a_sample_smaller_than_the_crop_is_one_failed_row(tmp_path: Path, small_dataset: Path) -> None:
    sr = tmp_path / "sr"
    sr.mkdir()
    for name in "ab":
        (sr / f"{name}.png").write_bytes((small_dataset / "hr" / f"{name}.png").read_bytes())
    (sr / "c.png").write_bytes(encode_png(np.zeros((1, 1, 3), np.uint8)))
    result = run("score", sr, "--dataset", small_dataset, "--out", tmp_path / "run")
    assert result.code == 5
    assert "c: SR is 1x1 px but HR is 48x40 px" in result.err
    assert "2 of 3" in result.out
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 9


def test_hr_that_is_too_small_is_one_failed_row_each(tmp_path: Path) -> None:
    with building(tmp_path / "tiny") as root:
        records = []
        for name, side in (("dot", 1), ("crop", 8), ("window", 16), ("enough", 20)):
            picture = encode_png(np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8))
            hr = add_image(root, f"hr/{name}.png", picture)
            records.append(Record(name=name, hr=hr, source="s", licence="l", made="m"))
        seal(
            root,
            records,
            name="tiny",
            version="1",
            title="t",
            licence="l",
            citation="c",
            builder_version="1",
        )
    result = run("eval", "bicubic", "--dataset", tmp_path / "tiny", "--out", tmp_path / "run")
    assert result.code == 5
    assert "3 of 4 samples failed" in result.err
    for reason in ("dot: 1x1 px is smaller than one LR pixel", "crop: 8x8 px leaves nothing", "window: 8x8 px after"):
        assert reason in result.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert sum(row["value"] is not None for row in rows) == 3 + 2  # only SSIM needs more than 16 px


def test_missing_pictures_end_with_5(small_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "sr").mkdir()
    result = run("score", tmp_path / "sr", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert result.code == 5
    assert "there is no restored picture a.png" in result.err


def test_edited_manifest(small_dataset: Path, tmp_path: Path) -> None:
    manifest = small_dataset / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace("first", "other"))
    for command in (
        ("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "r"),
        ("verify", small_dataset),
    ):
        assert_one_clear_line(run(*command), 4, MANIFEST_NAME, "not the manifest that was built")
    assert not (tmp_path / "r").exists()


def test_edited_picture_is_named_by_verify(small_dataset: Path) -> None:
    (small_dataset / "hr" / "b.png").write_bytes(b"x")
    (small_dataset / "hr" / "c.png").unlink()
    result = run("verify", small_dataset)
    assert_one_clear_line(result, 4, "hr/b.png: it was changed", "hr/c.png: there is no such file")


def test_not_a_dataset(scene: Path) -> None:
    assert_one_clear_line(run("eval", "bicubic", "--dataset", scene), 4, INFO_NAME, "build custom")
    assert_one_clear_line(run("eval", "bicubic", "--dataset", "demo"), 3, "refsr-bench build demo")
    assert_one_clear_line(run("eval", "bicubic", "--dataset", "sun8"), 2, "no dataset 'sun8'", 'did you mean "sun80"?')


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("eval", "bicubik", "--dataset", "demo"), ('did you mean "bicubic"',)),
        (("eval", "bicubic", "--dataset", "demo", "--set", "wieghts=x"), ("no option 'wieghts'",)),
        (("eval", "c2matching", "--dataset", "demo", "--set", "wieghts=x"), ('did you mean "weights"',)),
        (("eval", "bicubic", "--dataset", "demo", "--protocol", "c2-2020"), ('did you mean "c2-2021"',)),
        (("eval", "bicubic", "--dataset", "demo", "--refs", "frist"), ('did you mean "first"',)),
        (("eval", "bicubic", "--dataset", "demo", "--device", "cuda"), ("knows no other device than cpu",)),
        (("eval", "bicubic", "--datset", "demo"), ("No such option", "--dataset")),
        (("build", "demmo"), ('did you mean "demo"',)),
        (("build", "custom"), ("needs a folder",)),
        (("info", "c2match"), ('did you mean "c2matching"',)),
        (("explain", "psnr_y|corp:4"), ('did you mean "crop"',)),
        (("leaderboard", "/nonexistent"), ("does not exist",)),
        (("published", "--method", "TTSRrec"), ('did you mean "TTSR-rec"',)),
    ],
)
def test_usage_errors_suggest(arguments: tuple[str, ...], parts: tuple[str, ...], small_dataset: Path) -> None:
    arguments = tuple(str(small_dataset) if a == "demo" and arguments[0] == "eval" else a for a in arguments)
    assert_one_clear_line(run(*arguments), 2, *parts)


def test_c2matching_without_weights_says_what_runs_instead(small_dataset: Path, tmp_path: Path) -> None:
    result = run("eval", "c2matching", "--dataset", small_dataset, "--limit", "1", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert "note: c2matching has no weights here: c2matching-small runs instead" in result.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert {row["model"] for row in rows} == {"c2matching-small"}


def test_c2matching_gan_without_weights_says_what_to_do(small_dataset: Path, tmp_path: Path) -> None:
    result = run("eval", "c2matching-gan", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert_one_clear_line(result, 3, "refsr-bench weights import c2matching feature_extraction.pth")
    assert not (tmp_path / "run").exists()


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, (f"touch {self.marker}",)


def test_a_checkpoint_with_code_is_never_executed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "feature_extraction.pth"
    checkpoint.write_bytes(pickle.dumps({"weight": _Payload(tmp_path / "executed")}))
    result = run("weights", "import", "c2matching", checkpoint)
    assert_one_clear_line(result, 4, "feature_extraction.pth")
    assert not (tmp_path / "executed").exists()
    assert run("weights", "list").out == "no weights are imported\n"


def test_a_run_folder_is_not_mixed(small_dataset: Path, tmp_path: Path) -> None:
    sr = small_dataset / "hr"
    assert run("score", sr, "--dataset", small_dataset, "--name", "x", "--out", tmp_path / "run").code == 0
    outside = run("score", sr, "--dataset", small_dataset, "--name", "x/../../../../x", cwd=tmp_path)
    assert_one_clear_line(outside, 2, "'scored-x/../../../../x' cannot name a folder of runs")
    result = run("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert_one_clear_line(result, 2, "holds a run with another model", "--overwrite")
    assert run("eval", "bicubic", "--dataset", small_dataset, "--out", tmp_path / "run", "--overwrite").code == 0


# --- comparing ----------------------------------------------------------------------------------------------------


def test_compare_two_runs(small_dataset: Path, tmp_path: Path) -> None:
    def score(name: str, level: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for sample in "abc":
            hr = load_image(small_dataset / "hr" / f"{sample}.png").astype(int)
            noise = np.random.default_rng(ord(sample)).integers(-level, level + 1, hr.shape)
            (folder / f"{sample}.png").write_bytes(encode_png(np.clip(hr + noise, 0, 255).astype(np.uint8)))
        assert run("score", folder, "--dataset", small_dataset, "--out", tmp_path / f"run-{name}").code == 0
        return tmp_path / f"run-{name}"

    good, bad = score("good", 5), score("bad", 20)
    better = run("compare", bad, good)
    assert better.code == 0
    assert "psnr_y: good is better than bad, +" in better.out
    assert "worst: " in better.out
    assert run("compare", bad, good, "--fail-below", "0").code == 0
    worse = run("compare", good, bad, "--fail-below", "-0.05")
    assert worse.code == 8
    assert "below the limit" in worse.err
    assert run("compare", good, tmp_path).code == 2
    assert (
        run("score", good.parent / "good", "--dataset", small_dataset, "--limit", 2, "--out", tmp_path / "x").code == 0
    )
    assert_one_clear_line(run("compare", good, tmp_path / "x"), 7, "n is 3 in one and 2 in the other")


# --- leaderboard --------------------------------------------------------------------------------------------------


@pytest.fixture
def scored_run(small_dataset: Path, tmp_path: Path) -> Path:
    out = tmp_path / "runs" / "bicubic"
    assert run("eval", "bicubic", "--dataset", small_dataset, "--out", out).code == 0
    return out


def test_leaderboard_formats(scored_run: Path, tmp_path: Path) -> None:
    for style, sign in (("md", "### small@"), ("csv", "dataset,model,kind"), ("json", '"low"'), ("latex", "toprule")):
        printed = run("leaderboard", scored_run, "--format", style)
        assert printed.code == 0
        assert sign in printed.out
        file = tmp_path / f"table.{style}"
        assert run("leaderboard", scored_run, "--format", style, "--out", file).code == 0
        assert file.read_text().strip() == printed.out.strip()
    report = run_json("leaderboard", scored_run, "--format", "html", "--pictures", 0, "--out", tmp_path / "report")
    assert report == {"page": str(tmp_path / "report" / "index.html"), "runs": 1, "pictures": 0, "remarks": []}
    assert Path(report["page"]).is_file()


def test_leaderboard_check(scored_run: Path) -> None:
    clean = run("leaderboard", scored_run, "--check")
    assert (clean.code, clean.err) == (0, "")
    rows = scored_run / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    broken = run("leaderboard", scored_run, "--check")
    assert broken.code == 4
    assert "truncated: " in broken.out
    assert "is cut short" in broken.out
    assert json.loads(run("leaderboard", scored_run, "--check", "--json").out)[0]["kind"] == "truncated"


def test_terminal_output_holds_no_escape(small_dataset: Path, tmp_path: Path) -> None:
    name = "evil\x1b[31m\u202e<script>"
    arguments = ("score", small_dataset / "hr", "--dataset", small_dataset, "--out", tmp_path / "r", "--name", name)
    printed = run(*arguments)
    board = run("leaderboard", tmp_path / "r")
    other = run("compare", tmp_path / "r", tmp_path / "r")
    for text in (printed.out, printed.err, board.out, other.out, other.err):
        assert not {"\x1b", "\u202e"} & set(text)


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    result = run("verify", tmp_path / "a\x1b[31mred\u202e")
    assert result.code != 0
    assert "a?[31mred?" in result.err
    assert "\x1b" not in result.err
