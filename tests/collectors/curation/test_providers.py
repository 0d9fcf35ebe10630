"""Providers: what they make of documented answers, saved pages and lists, and of hostile ones."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsr_bench.collectors.curation.licences import normalise_licence
from refsr_bench.collectors.curation.providers import Found, Provider, ProviderFault, Question, saved_page, text_of
from refsr_bench.collectors.curation.providers.commons import PROVIDER as COMMONS
from refsr_bench.collectors.curation.providers.flickr import PROVIDER as FLICKR
from refsr_bench.collectors.curation.providers.local_folder import PROVIDER as LOCAL
from refsr_bench.collectors.curation.providers.openverse import PROVIDER as OPENVERSE
from refsr_bench.collectors.curation.providers.saved_page import MAX_TAGS, parse_page, read_page
from refsr_bench.collectors.curation.providers.saved_page import PROVIDER as PAGE
from refsr_bench.collectors.curation.providers.url_list import PROVIDER as LIST
from refsr_bench.errors import ManualStepNeeded


class Answers:
    """An API that gives prepared answers and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []

    def __call__(self, url: str, params: Mapping[str, str], *, secrets: Any = None, headers: Any = None) -> Any:
        self.asked.append({**params, **(secrets or {}), **(headers or {})})
        return self.answers.pop(0)


def find(
    provider: Provider, ask: Any = None, *, top: int = 50, licences: Any = "open", source: Path | None = None
) -> list[Found]:
    return list(provider.search(Question("castle-1", "castle", top, licences, None, source), ask))


def test_openverse_pages_and_licences() -> None:
    def page(number: int) -> dict[str, Any]:
        item = {
            "url": f"https://a.example/{number}.jpg", "title": "A <b>castle</b>", "license": "by-sa",
            "license_version": "2.0", "license_url": "https://creativecommons.org/licenses/by-sa/2.0/",
            "foreign_landing_url": "https://a.example", "creator": None,
        }  # fmt: skip
        return {"result_count": 60, "page_count": 3, "results": [item] * 20}

    ask = Answers(page(1), page(2), page(3))
    found = find(OPENVERSE, ask, top=50)
    assert len(found) == 50
    assert [asked["page"] for asked in ask.asked] == ["1", "2", "3"]
    assert ask.asked[0]["license"] == "cc0,pdm,by,by-sa"
    assert (found[0].title, found[0].creator) == ("A castle", "")
    assert normalise_licence(found[0].licence, found[0].licence_url) == "cc-by-sa-2.0"
    assert "license" not in (lambda a: (find(OPENVERSE, a, top=5, licences="any"), a.asked[0])[1])(Answers(page(1)))


def test_openverse_sends_its_token_as_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVERSE_TOKEN", "tok")
    ask = Answers({"results": [], "page_count": 0})
    assert find(OPENVERSE, ask) == []
    assert ask.asked[0]["Authorization"] == "Bearer tok"


def test_commons_continues_and_takes_scaled_copies() -> None:
    def entry(index: int, **info: Any) -> dict[str, Any]:
        base = {
            "url": f"https://c.example/{index}.jpg",
            "descriptionurl": "https://c.example/page",
            "width": 800,
            "height": 600,
            "mime": "image/jpeg",
        }
        meta = {"Artist": {"value": "<a href='//x'>Ann</a>"}, "LicenseShortName": {"value": "CC BY-SA 3.0"}}
        return {"title": f"File:{index}.jpg", "index": index, "imageinfo": [{**base, **info, "extmetadata": meta}]}

    large = {"width": 9000, "mime": "image/tiff", "thumburl": "https://c.example/scaled.jpg"}
    first = {"query": {"pages": [entry(2), entry(1, **large)]}, "continue": {"gsroffset": 2, "continue": "-"}}
    ask = Answers(first, {"query": {"pages": [entry(3)]}})
    found = find(COMMONS, ask)
    assert [f.url for f in found] == [
        "https://c.example/scaled.jpg",
        "https://c.example/2.jpg",
        "https://c.example/3.jpg",
    ]
    assert ask.asked[1]["gsroffset"] == "2"
    assert (found[1].creator, normalise_licence(found[1].licence)) == ("Ann", "cc-by-sa-3.0")
    with pytest.raises(ProviderFault, match="Waiting for a database"):
        find(COMMONS, Answers({"error": {"code": "maxlag", "info": "Waiting for a database server"}}))


def test_flickr_needs_a_key_and_says_what_flickr_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    with pytest.raises(ManualStepNeeded, match="FLICKR_API_KEY"):
        find(FLICKR, Answers())
    monkeypatch.setenv("FLICKR_API_KEY", "k")
    photo = {
        "id": "7",
        "owner": "o",
        "title": "t",
        "license": "9",
        "ownername": "Bo",
        "url_o": "https://f.example/o.jpg",
    }
    answer = {"stat": "ok", "photos": {"page": 1, "pages": 1, "photo": [photo, {"id": "8", "license": "4"}]}}
    found = find(FLICKR, Answers(answer))
    assert [(f.url, normalise_licence(f.licence)) for f in found] == [("https://f.example/o.jpg", "cc0-1.0")]
    with pytest.raises(ProviderFault, match="Service down"):
        find(FLICKR, Answers({"stat": "fail", "message": "Service down"}))
    with pytest.raises(ProviderFault):
        find(FLICKR, Answers([1, 2]))


RESULTS = """<html><head><base href="https://evil.example/">
<meta property="og:image" content="https://a.example/og.jpg"></head>
<a href="javascript:alert(1)//x.jpg">no</a>
<a href="/imgres?imgurl=https%3A%2F%2Fb.example%2Fbig.jpg&amp;imgrefurl=https%3A%2F%2Fb.example%2Fpage"
>x</a>
<a class="iusc"
m='{"murl":"https://c.example/m.png","purl":"https://c.example/p","t":"A &lt;script&gt; title"}'>y</a>
<img src="data:image/png;base64,AAAA"><img src="saved_files/thumb.jpg">
<img data-src="https://d.example/d.jpg" alt="A gate">
<img srcset="https://e.example/s.jpg 1x, https://e.example/l.jpg 2x"><a href="file:///etc/passwd.jpg">z</a>
<script type="application/ld+json">{"@graph":[{"contentUrl":"https://f.example/f.jpeg"}]}</script>
<script>var d=["https:\\/\\/g.example\\/g.jpg",300,400,"https://h.example/h.webp?x\\u003d1"];</script>
<a href="https://b.example/big.jpg">again</a></html>"""


def test_a_saved_page_gives_its_links_and_its_json(tmp_path: Path) -> None:
    (tmp_path / "castle-1.html").write_text(RESULTS)
    found = {f.url: f for f in find(PAGE, source=tmp_path)}
    assert set(found) == {
        "https://a.example/og.jpg", "https://b.example/big.jpg", "https://c.example/m.png", "https://d.example/d.jpg",
        "https://e.example/l.jpg", "https://f.example/f.jpeg", "https://g.example/g.jpg", "https://h.example/h.webp?x=1",
    }  # fmt: skip
    assert found["https://b.example/big.jpg"].landing == "https://b.example/page"
    assert found["https://c.example/m.png"].landing == "https://c.example/p"
    assert found["https://d.example/d.jpg"].title == "A gate"
    assert len(find(PAGE, source=tmp_path / "castle-1.html", top=3)) == 3
    with pytest.raises(ProviderFault, match="no such file"):
        find(PAGE, source=tmp_path / "other.html")


def test_hostile_pages_cost_bounded_time_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "nested": b"<div>" * 50_000 + b"<img src='https://a.example/deep.jpg'>",
        "encoding": b"\xff\xfe\x00<img src='https://a.example/\xff.jpg'>" + bytes(range(256)) * 40,
        "json": b"<script type='application/json'>" + b"[" * 100_000 + b"</script>",
        "attributes": b"<img " + b" ".join(b"a%d='{\"url\":1}'" % i for i in range(20_000)) + b">",
    }
    for name, data in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_bytes(data)
        assert len(list(read_page(path))) <= 1, name
    (tmp_path / "tags.html").write_bytes(b"<p>" * (MAX_TAGS + 1))
    with pytest.raises(ProviderFault, match="tags"):
        list(read_page(tmp_path / "tags.html"))
    (tmp_path / "quotes.html").write_bytes(b"<a href='" * 100_000)  # quadratic for Python's parser: minutes
    monkeypatch.setattr(saved_page, "WITHIN_S", 2.0)
    begun = time.monotonic()
    with pytest.raises(ProviderFault, match="not read within 2 s"):
        list(read_page(tmp_path / "quotes.html"))
    assert time.monotonic() - begun < 10
    large = tmp_path / "large.html"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    with pytest.raises(ProviderFault, match="limit for a page"):
        list(read_page(large))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


PIECES = (
    "<a href=", "'", '"', ">", "<script>", "</script>", "{", '"murl":"https://x.y/z.jpg"', "}", "<img src=",
    "https://x.y/z.jpg", "javascript:", "<!--", "&", "\\u00", "\x00", "]]>",
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_no_page_breaks_the_reader(parts: list[str]) -> None:
    for found in parse_page(" ".join(parts).encode()):
        assert found.url is not None
        assert found.url.startswith(("http://", "https://"))


def test_lists_and_folders(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("# mine\nhttps://a.example/1.jpg\n\nhttps://a.example/2.jpg\n")
    assert [f.url for f in find(LIST, source=tmp_path / "all.txt")] == [
        "https://a.example/1.jpg",
        "https://a.example/2.jpg",
    ]
    table = "url,query,title,licence\n"
    table += (
        "https://a.example/1.jpg,castle-1,One,CC BY 4.0\nhttps://a.example/2.jpg,other,,\nhttps://a.example/3.jpg,,,\n"
    )
    (tmp_path / "castle-1.csv").write_text(table)
    found = find(LIST, source=tmp_path)
    assert [(f.url, f.title) for f in found] == [("https://a.example/1.jpg", "One"), ("https://a.example/3.jpg", "")]
    (tmp_path / "bad.csv").write_text("link\nx\n")
    with pytest.raises(ProviderFault, match="no column url"):
        find(LIST, source=tmp_path / "bad.csv")
    (tmp_path / "castle-1").mkdir()
    (tmp_path / "castle-1" / "b.jpg").write_bytes(b"")
    (tmp_path / "castle-1" / "._b.jpg").write_bytes(b"")
    assert [f.title for f in find(LOCAL, source=tmp_path)] == ["b.jpg"]


def test_texts_become_one_plain_line() -> None:
    assert text_of("<img src=x onerror=alert(1)>a\u202eb\x1b[2J\n c") == "a b [2J c"
    assert text_of(None) == ""
    assert text_of({"a": 1}) == "{'a': 1}"
    assert len(text_of("x" * 10_000)) == 500
    assert json.loads(json.dumps(text_of("\ud800"))) is not None


@pytest.mark.parametrize(
    ("text", "url", "expected"),
    [
        ("CC BY-NC-ND 2.0", "", "cc-by-nc-nd-2.0"), ("by-nc 2.0", "", "cc-by-nc-2.0"), ("Attribution", "", "unknown"),
        ("", "https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"), ("CC BY 4.0", "", "cc-by-4.0"),
        ("Public domain", "https://creativecommons.org/publicdomain/mark/1.0/", "pdm-1.0"),
        ("by accident", "", "unknown"), ("not public domain", "", "unknown"),
        ("Creative Commons BY-SA 4.0", "", "cc-by-sa-4.0"),
        ("CC-BY-SA-3.0,2.5", "", "cc-by-sa-3.0"), ("GFDL", "", "unknown"), ("Flickr licence 7", "", "unknown"),
        ("cc-by-sa-4.0", "", "cc-by-sa-4.0"), ("all rights reserved", "", "all-rights-reserved"),
    ],
)  # fmt: skip
def test_licences_are_read_or_unknown(text: str, url: str, expected: str) -> None:
    assert normalise_licence(text, url) == expected
