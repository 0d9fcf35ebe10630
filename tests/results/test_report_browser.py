"""The HTML report in real Chromium, opened from disk: sorting, filtering, zoom, slider, keyboard, size and speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from refsr_bench.results.report.build import build_report
from refsr_bench.results.rows import find_runs
from tests.results.synthetic import write_leaderboard, write_run


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    write_leaderboard(root / "runs", models=20, datasets=5, samples=126)
    settings = {"explain": lambda text: [(text, "what it means")], "definitions": {}}
    build_report(find_runs([root / "runs"]), root / "report", **settings)  # type: ignore[arg-type]
    return root / "report"


@pytest.fixture
def demo(demo_report: Path) -> Path:
    return demo_report / "report"


def models(page: Any, table: str = "section.table:not([hidden]) .sortable") -> list[str]:
    script = "t => [...document.querySelectorAll(t + ' tbody:not([hidden]) th a')].map(a => a.textContent)"
    return list(page.evaluate(script, table))


def test_a_large_leaderboard_is_quick_and_small(large: Path, page: Any) -> None:
    assert sum(file.stat().st_size for file in large.rglob("*") if file.is_file()) < 30e6
    clock = page.context.new_cdp_session(page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})
    took, worked = [], [page_seconds(clock)]
    for _ in range(3):
        started = time.monotonic()
        page.goto((large / "index.html").as_uri())
        page.wait_for_selector("#filters:not([hidden])")
        took.append(time.monotonic() - started)
        worked.append(page_seconds(clock))
    # Where other work takes the processors, the page is judged by the time that it was given.
    assert min(took) < 2 or worked[-1] - worked[-2] < 2, (took, worked)
    assert page.inner_text("#shown") == "100 of 100 runs shown"


def page_seconds(clock: Any) -> float:
    """Processor seconds of the page's main thread so far."""
    metrics = clock.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def test_sorting(large: Path, page: Any) -> None:
    page.goto((large / "index.html").as_uri())
    section = page.locator("section.table").first
    values = "s => [...s.querySelectorAll('.sortable tbody tr:first-child td:nth-child(4)')].map(c => +c.dataset.value)"
    button = section.locator("thead th").nth(3).locator("button")
    button.click()
    falling = section.evaluate(values)
    assert falling == sorted(falling, reverse=True)
    assert section.locator("thead th").nth(3).get_attribute("aria-sort") == "descending"
    button.focus()
    page.keyboard.press("Enter")
    assert section.evaluate(values) == falling[::-1]
    assert section.locator("thead th").nth(3).get_attribute("aria-sort") == "ascending"
    section.locator("thead th").first.locator("button").click()
    assert models(page)[:20] == [f"model{i:02}" for i in range(20)]
    groups = "s => [...s.querySelectorAll('.sortable tbody')].every(b => b.rows.length === 3)"
    assert section.evaluate(groups), "the groups of a run stay with it"


def test_filtering(large: Path, page: Any) -> None:
    page.goto((large / "index.html").as_uri())
    page.select_option("#filter-dataset", "set2@123456")
    assert page.inner_text("#shown") == "20 of 100 runs shown"
    page.select_option("#filter-kind", "gan")
    assert page.inner_text("#shown") == "5 of 100 runs shown"
    page.fill("#filter-text", "model05")
    assert models(page) == ["model05"]
    page.fill("#filter-text", "nothing like this")
    assert page.inner_text("#shown") == "0 of 100 runs shown"
    page.fill("#filter-text", "")
    page.select_option("#filter-kind", "")
    page.select_option("#filter-dataset", "")
    page.uncheck("#show-groups")
    assert page.locator("tr.group:visible").count() == 0


def test_a_signature_is_explained_where_its_mark_leads(large: Path, page: Any) -> None:
    page.goto((large / "index.html").as_uri())
    assert not page.is_visible("#signature-2 .full")
    page.locator("section.table thead .sig").nth(1).click()
    assert page.is_visible("#signature-2 .full")
    assert page.inner_text("#signature-2 .full").startswith("ssim_y|data:set0@123456|n:126|")


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_sticks_out(large: Path, demo: Path, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    pages = [large / "index.html", next((large / "run").glob("*.html")), next(demo.glob("picture/*/*.html"))]
    for path in pages:
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name


def transforms(page: Any) -> set[str]:
    return set(page.evaluate("[...document.querySelectorAll('#panes img')].map(i => i.style.transform)"))


def picture(demo: Path) -> str:
    return sorted(demo.glob("picture/*/*.html"))[0].as_uri()


def test_zoom_and_pan_move_every_picture_alike(demo: Path, page: Any) -> None:
    page.goto(picture(demo))
    assert page.evaluate("[...document.images].every(i => i.complete)")
    fit = page.inner_text("#zoom-value")
    page.click("#zoom-in")
    page.click("#zoom-in")
    (zoomed,) = transforms(page)
    assert "scale(1.5625)" in zoomed
    box = page.locator("#panes .view").nth(1).bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 110, box["y"] + 60, steps=4)
    page.mouse.up()
    (panned,) = transforms(page)
    assert panned != zoomed
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    (wheeled,) = transforms(page)
    assert wheeled != panned
    page.click("#zoom-fit")
    assert page.inner_text("#zoom-value") == fit
    page.click("#zoom-one")
    assert page.inner_text("#zoom-value") in {"100 %", fit}


def test_keyboard_alone_zooms_pans_and_steps(demo: Path, page: Any) -> None:
    page.goto(picture(demo))
    page.locator("#panes .view").first.focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    (zoomed,) = transforms(page)
    page.keyboard.press("ArrowRight")
    (panned,) = transforms(page)
    assert "scale(1.5625)" in zoomed
    assert panned != zoomed
    page.keyboard.press("0")
    assert transforms(page) == {"translate(0px, 0px) scale(1)"}
    first = page.url
    page.keyboard.press("n" if page.locator("#next").count() else "p")
    page.wait_for_url(lambda url: url != first)


def test_the_slider_shows_a_beside_b(demo: Path, page: Any) -> None:
    page.goto(picture(demo))
    page.keyboard.press("s")
    assert page.is_visible("#slider-view")
    assert not page.is_visible("#panes")
    a, b = (page.evaluate(f"document.getElementById('image-{side}').src") for side in "ab")
    assert a != b
    page.locator("#divide").focus()
    page.keyboard.press("Home")
    assert page.evaluate("document.getElementById('layer-a').style.clipPath") == "inset(0px 100% 0px 0px)"
    page.keyboard.press("End")
    assert page.evaluate("document.getElementById('layer-a').style.clipPath") == "inset(0px 0% 0px 0px)"
    page.locator("#slider-view").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.getElementById('image-a').src") == b


def test_error_maps_replace_the_restored_pictures_only(demo: Path, page: Any) -> None:
    page.goto(picture(demo))
    page.check("#show-errors")
    sources = page.evaluate("[...document.querySelectorAll('#panes img')].map(i => i.src)")
    assert [s.endswith("-error.png") for s in sources] == [False, False, True, True, False]
    assert page.is_visible("#legend")
    page.keyboard.press("e")
    assert not page.is_visible("#legend")


def test_hostile_names_do_nothing_in_a_browser(tmp_path: Path, page: Any) -> None:
    name = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'><svg onload=alert(3)>{{7*7}}\u202e\x1b[1m"
    for i in range(2):
        write_run(tmp_path / "runs" / str(i), name + str(i), [20.0, 21.0 + i], title=name, paper=name)
    settings = {"explain": lambda text: [(name, name)], "definitions": {}}
    build_report(find_runs([tmp_path / "runs"]), tmp_path / "report", **settings)  # type: ignore[arg-type]
    for path in sorted((tmp_path / "report").rglob("*.html")):
        page.goto(path.as_uri())
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate(
            "[...document.querySelectorAll('*')].every(e => !e.getAttributeNames().some(n => /^on/.test(n)))"
        )


def test_without_script_everything_is_still_there(demo: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((demo / "index.html").as_uri())
    assert page.locator("section.table tbody").count() == 2
    page.goto(picture(demo))
    assert page.locator("#panes img").count() == 5
    assert not page.is_visible("#tools")
    context.close()
