"""From query photographs to a scored dataset, through the commands, against a server that speaks all three APIs.

Real photographs: queries of BSDS500, sacre_coeur and lund; true views, distractors, disguised copies of the queries.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from curation_server import KEY, Small
from disguise import disguise
from PIL import Image as PilImage

from refsr_bench.images import load_image
from refsr_bench.store import open_dataset


class Toolkit:
    """The command line, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ, "REFSR_DATA_DIR": str(home / "data"), "REFSR_CACHE_DIR": str(home / "cache"),
            "FLICKR_API_KEY": KEY, "REFSR_CONTACT": "lab@university.example", "REFSR_NO_PROGRESS": "1",
        }  # fmt: skip

    def __call__(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "refsr_bench", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=self.home)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


class World(Small):
    """Pictures of real scenes behind three APIs; some of them misbehave."""

    def __init__(self, home: Path, dev_data: Path) -> None:
        self.views: dict[str, list[str]] = {"sacre coeur": [], "lund street": [], "deer": []}
        self.copies: list[str] = []
        pictures: dict[str, str] = {}
        scenes = {"sacre coeur": "refsr_pairs/sacre_coeur", "lund street": "refsr_pairs/lund"}
        queries = home / "queries"
        queries.mkdir()
        shutil.copy(dev_data / "refsr_pairs/sacre_coeur/10265353_3838484249.jpg", queries / "sacre_coeur.jpg")
        shutil.copy(dev_data / "refsr_pairs/lund/10.jpg", queries / "lund-street.jpg")
        shutil.copy(dev_data / "train/bsds500_train/100075.jpg", queries / "100075.jpg")
        shutil.copy(dev_data / "train/bsds500_train/113044.jpg", queries / "113044.jpg")
        own = {"10265353_3838484249.jpg", "10.jpg", "100075.jpg", "113044.jpg"}
        for text, folder in scenes.items():
            for path in [p for p in sorted((dev_data / folder).glob("*.jpg")) if p.name not in own][:8:2]:
                self.views[text].append(f"/p/{text[:4]}/{path.name}")
                pictures[self.views[text][-1]] = str(path)
        others = [p for p in sorted((dev_data / "train/bsds500_train").glob("*.jpg")) if p.name not in own][:7]
        distractors = [f"/p/other/{path.name}" for path in others]
        pictures |= {f"/p/other/{path.name}": str(path) for path in others}
        rng = np.random.default_rng(7)
        for name in ("sacre_coeur.jpg", "lund-street.jpg", "100075.jpg"):
            copy, _ = disguise(load_image(queries / name), rng)
            path = home / f"copy-of-{name}"
            PilImage.fromarray(copy).save(path, quality=85)
            self.copies.append(f"/p/copy/{name}")
            pictures[self.copies[-1]] = str(path)
        broken = home / "broken.jpg"
        broken.write_bytes((queries / "113044.jpg").read_bytes()[:9000])
        hostile = "<script>alert(1)</script>=HYPERLINK(0)\x1b[31m\u202e"
        extra = ["/private/x.jpg", "/p/gone.jpg", "/p/noai.jpg", "/p/html.jpg", "/p/broken.jpg", "/p/away.jpg"]
        entries = {
            "sacre coeur": [self.copies[0], *self.views["sacre coeur"], *distractors[:3]],
            "lund street": [self.copies[1], *self.views["lund street"], *distractors[3:6]],
            "deer": [self.copies[2], *distractors, *extra],
        }
        searches = {
            text: [
                {"url": url, "title": f"{hostile} {i}", "creator": "=cmd()", "flickr": "4"}
                for i, url in enumerate(urls)
            ]
            for text, urls in entries.items()
        }
        searches["deer"].append({"url": "/p/reserved.jpg", "flickr": "0", "license": "by-nc-nd"})
        super().__init__(
            {
                "pictures": pictures, "searches": searches, "robots": "User-agent: *\nDisallow: /private",
                "faults": {
                    "/p/gone.jpg": ["status 404"], "/p/noai.jpg": ["noai"], "/p/html.jpg": ["html"],
                    "/p/broken.jpg": [f"file {broken}"], "/p/away.jpg": ["to http://169.254.169.254/latest/meta-data"],
                    distractors[0]: ["status 503", f"file {others[0]}"],
                    distractors[1]: ["busy 1", f"file {others[1]}"],
                },
            }
        )  # fmt: skip
        (home / "captions.csv").write_text("name,text,tags\n100075.jpg,deer,\n")
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_search_clean_review_accept_build_verify_eval(dev_data: Path, tmp_path: Path) -> None:
    run, work = Toolkit(tmp_path), tmp_path / "work"
    world = World(tmp_path, dev_data)
    try:
        search: list[object] = ["curate", "search", work, "--queries", tmp_path / "queries", "--top", "40"]
        search += ["--captions", tmp_path / "captions.csv", "--queries-licence", "CC BY 4.0"]
        search += ["--allow-private", "--host-limit", "200"]
        for provider, path in (("openverse", "openverse"), ("wikimedia-commons", "commons"), ("flickr", "flickr")):
            search += ["--provider", provider, "--endpoint", f"{provider}={world.url}/{path}"]
        run(*search)
        check_candidates(work, world)
        before = len(world.asked)
        run(*search)
        assert len(world.asked) == before  # nothing is asked or fetched twice
        run("curate", "clean", work, "--min-side", "200")
        ranks = check_pools(work, world)
        choices = tmp_path / "choices.csv"
        choices.write_text(
            "query,reference,reviewer,reason,category\n"
            f"sacre_coeur,1,ann,same portal,landmark\nlund-street,{ranks['lund-street']},ann,,outdoor\n"
            "100075,,ann,no candidate shows the scene,animal\n113044,,ann,nothing found,animal\n"
        )
        accepted = json.loads(run("curate", "accept", work, "--choices", choices, "--json").stdout)
        assert (accepted["with_reference"], accepted["without_reference"]) == (2, 2)
        run("curate", "accept", work, "--choices", choices)
        assert len(rows(work / "decisions.jsonl")) == 8  # the same file again adds nothing
        selection = work / "selection.jsonl"
        run("build", "wr-sr", "--selection", selection, "--out", tmp_path / "curated")
        check_dataset(run, tmp_path / "curated")
        rebuild_elsewhere(run, world, selection, tmp_path)
        take_down(run, world, work, search)
        assert not [p for p in work.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    finally:
        world.shutdown()
        world.server_close()


def check_candidates(work: Path, world: World) -> None:
    found = {(row["query"], row["origin"]["provider"], row["origin"]["url"].removeprefix(world.url)): row
             for row in rows(work / "candidates.jsonl")}  # fmt: skip
    by_path = {path: row for (_, _, path), row in found.items()}
    expected = {
        "/private/x.jpg": ("refused", "disallowed"), "/p/gone.jpg": ("failed", "404"),
        "/p/noai.jpg": ("refused", "noai"),
        "/p/html.jpg": ("failed", "a web page"), "/p/away.jpg": ("refused", "private address"),
        "/p/reserved.jpg": ("refused", "licence"),
    }  # fmt: skip
    for path, (status, reason) in expected.items():
        assert by_path[path]["status"] == status, by_path[path]
        assert reason in by_path[path]["error"]
    for path in [*world.copies, *world.views["sacre coeur"], *world.views["lund street"]]:
        assert by_path[path]["status"] == "ok"
        assert by_path[path]["robots"] == "allowed"
        assert len(by_path[path]["sha256"]) == 64
    searches = rows(work / "searches.jsonl")
    assert len(searches) == 4 * 3
    assert {s["query"] for s in searches if "no search words" in (s.get("error") or "")} == {"113044"}
    pictures = [path for _, path, _ in world.asked if path.startswith("/p/") and "gone" not in path]
    repeated = {path for path in pictures if pictures.count(path) > 1}
    assert repeated <= {path for path, turns in world.plan["faults"].items() if turns}
    text = (work / "candidates.jsonl").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text


def check_pools(work: Path, world: World) -> dict[str, int]:
    """Copies are refused, true views come first; gives the rank of a true view of each scene."""
    ranks = {}
    for name, text, copy in (
        ("sacre_coeur", "sacre coeur", world.copies[0]),
        ("lund-street", "lund street", world.copies[1]),
        ("100075", "deer", world.copies[2]),
    ):
        pool = json.loads((work / "judged" / f"{name}.json").read_text())["rows"]
        verdicts = {row["candidate"]["origin"]["url"].removeprefix(world.url): row for row in pool}
        assert verdicts[copy]["verdict"] == "copy of the query"
        assert verdicts[copy]["leak"]["agreeing"] >= 0.6
        views = world.views[text]
        places = sorted(verdicts[view]["rank"] for view in views)
        assert all(verdicts[view]["verdict"] == "kept" for view in views)
        if views:
            assert places[:2] == [1, 2]
            ranks[name] = places[0]
        assert (work / "sheets" / f"{name}.jpg").stat().st_size > 10_000
    deer = json.loads((work / "judged" / "100075.json").read_text())["rows"]
    assert {row["verdict"] for row in deer if row["candidate"]["origin"]["url"].endswith("broken.jpg")} == {
        "unreadable"
    }
    return ranks


def check_dataset(run: Toolkit, root: Path) -> None:
    assert "2 samples verified" in run("verify", root, "--deep").stdout
    dataset = open_dataset(root)
    assert [record.name for record in dataset.records] == ["001", "002"]
    assert (root / "WR-SR_pairs.txt").read_text() == "001.png 001_ref.png\n002.png 002_ref.png\n"
    for record in dataset.records:
        hr, ref = record.hr, record.refs[0]
        assert hr is not None
        assert (hr.path, ref.path) == (f"input/{record.name}.png", f"ref/{record.name}_ref.png")
        assert max(ref.height, ref.width) <= max(hr.height, hr.width)
        assert "pil.bicubic" in record.made or "px unchanged; chosen" in record.made
    table = list(csv.DictReader((root / "LICENCES.csv").read_text().splitlines()))
    assert len(table) == 4
    assert not any(value.startswith(("=", "+", "-", "@")) for row in table for value in row.values())
    sheet = (root / "DATASHEET.md").read_text()
    assert "2 queries were dropped" in sheet
    assert "landmark (1)" in sheet
    assert "<script" not in (root / "ATTRIBUTION.md").read_text()
    scored = run("eval", "bicubic", "--dataset", root, "--out", root.with_name("run"))
    assert "psnr_y" in scored.stdout


def rebuild_elsewhere(run: Toolkit, world: World, selection: Path, tmp_path: Path) -> None:
    """Somebody who has only the selection and the queries gets the same dataset, or is told what is gone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = Path(shutil.copy(selection, elsewhere))
    build = ["build", "wr-sr", "--selection", moved, "--from", tmp_path / "queries", "--allow-private", "--json"]
    again = json.loads(run(*build).stdout)
    assert again["manifest_sha256"] == open_dataset(tmp_path / "curated").info.manifest_sha256
    shutil.rmtree(run.home / "cache")
    reference = rows(moved)[-1]["reference"] or rows(moved)[0]["reference"]
    path = reference["origin"]["url"].removeprefix(world.url)
    kept = world.bytes.pop(path)
    gone = run(*build, "--force", code=5)
    assert "1 of 2 pairs could not be" in gone.stderr
    assert "1 pair(s) of the selection are missing" in run(*build, code=5).stderr
    assert f"{reference['origin']['url']}: the server answers 404" in gone.stderr
    world.bytes[path] = kept[:-3] + b"xyz"
    assert "another picture at this address" in run(*build, "--force", code=5).stderr
    world.bytes[path] = kept


def take_down(run: Toolkit, world: World, work: Path, search: list[object]) -> None:
    chosen = next(row["reference"] for row in rows(work / "selection.jsonl") if row.get("reference"))
    url = chosen["origin"]["url"]
    assert "without a reference now" in run("curate", "drop", url, "--work", work).stderr
    assert url not in [
        (row.get("reference") or {}).get("origin", {}).get("url") for row in rows(work / "selection.jsonl")
    ]
    assert not list((work / "pictures").rglob(f"{chosen['sha256']}*"))
    before = len(world.asked)
    run(*search)
    assert len(world.asked) == before
    run("curate", "clean", work, "--min-side", "200")
    assert chosen["sha256"] not in "".join(path.read_text() for path in (work / "judged").glob("*.json"))
