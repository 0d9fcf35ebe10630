"""The study's page in real Chromium: served with every answer sent at once, and static with answers saved as a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refsr_bench.results.study.answers import read_answers
from refsr_bench.results.study.design import open_study


@pytest.fixture(scope="module")
def planned(demo_report: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of bicubic against the HR pictures on three demo images, made by the command."""
    folder = tmp_path_factory.mktemp("planned") / "study"
    runs = ["--target", str(demo_report / "runs" / "hr"), "--against", str(demo_report / "runs" / "bicubic")]
    command = [sys.executable, "-m", "refsr_bench", "study", "new", str(folder), *runs, "--checks", "1"]
    environment = os.environ | {"REFSR_DATA_DIR": str(demo_report / "data")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "3 pairs of 2 methods, 1 attention checks; 20 sheets of 4 pairs" in done.stdout
    return folder


@pytest.fixture
def study(planned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planned, tmp_path / "study"))


@pytest.fixture
def link(study: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "refsr_bench", "study", "serve", str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()
            process.wait(20)


def agree(page: Any) -> None:
    assert page.locator("#start").is_disabled()
    page.check("#agree")
    page.click("#start")
    page.wait_for_selector("#choose-left:enabled")


def choose(page: Any, key: str) -> None:
    before = page.inner_text("#count")
    page.wait_for_selector("#choose-left:enabled")
    page.wait_for_timeout(300)  # quicker choices are taken for slips
    page.keyboard.press(key)
    page.wait_for_function("before => document.getElementById('count').textContent !== before", arg=before)


def test_served(study: Path, link: str, page: Any) -> None:
    page.goto(link)
    agree(page)
    for _ in range(2):
        choose(page, "ArrowLeft")
    page.reload()  # a reloaded page goes on where it was
    agree(page)
    assert page.inner_text("#count") == "2 of 4"
    page.wait_for_timeout(300)
    page.click("#choose-right")
    page.get_by_text("3 of 4").wait_for()
    choose(page, "ArrowRight")
    assert page.is_visible("#end-served")
    plan, _ = open_study(study)
    answers = read_answers(study, plan)
    assert [a.choice for a in answers.valid] == ["left", "left", "right", "right"]
    assert not answers.rejected
    assert len({a.rater for a in answers.valid}) == 1
    done = subprocess.run(
        [sys.executable, "-m", "refsr_bench", "study", "analyse", str(study), "--allowed-failures", "1"],
        capture_output=True,
        text=True,
    )
    assert re.search(r"^truth was preferred to bicubic in \d+ % of 3 comparisons by 1 raters", done.stdout)


def test_a_refused_answer_is_not_taken_for_stored(study: Path, link: str, page: Any) -> None:
    def refuse(reason: str) -> None:
        page.evaluate("error => { fetch = async () => Response.json({ error }, { status: 409 }); }", reason)

    page.goto(link)
    agree(page)
    refuse("another study")
    page.wait_for_timeout(300)
    page.click("#choose-left")
    page.get_by_text("could not be stored (another study)").wait_for()
    assert page.inner_text("#count") == "0 of 4"
    refuse("answered already")
    choose(page, "ArrowLeft")
    assert page.inner_text("#count") == "1 of 4"


@pytest.mark.parametrize("width", [1400, 420])
def test_static(study: Path, page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 850})
    page.goto((study / "public" / "index.html").as_uri() + "?sheet=3")
    agree(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for key in ("ArrowRight", "1", "b", "ArrowLeft"):
        choose(page, key)
    assert page.is_visible("#end-static")
    with page.expect_download() as download:
        page.click("#download")
    saved = tmp_path / "answers.json"
    download.value.save_as(saved)
    assert json.loads(saved.read_text()) == json.loads(page.input_value("#copy"))
    plan, _ = open_study(study)
    answers = read_answers(study, plan, [saved])
    assert [a.choice for a in answers.valid] == ["right", "left", "right", "left"]
    assert {a.sheet for a in answers.valid} == {3}
    assert not answers.rejected


def test_a_double_click_answers_one_pair_only(study: Path, page: Any) -> None:
    page.goto((study / "public" / "index.html").as_uri())
    agree(page)
    page.wait_for_timeout(300)
    page.dblclick("#choose-left")
    page.wait_for_timeout(200)
    assert page.inner_text("#count") == "1 of 4"
