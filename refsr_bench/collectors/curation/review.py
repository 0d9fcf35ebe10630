"""The page on which a person chooses: served on this computer, or as a static folder that needs no server.

Both homes run the same script. Candidates are shown in the order of their ranks; with ``blind``, in an order of the
reviewer's own and without scores. Nobody sees another reviewer's decisions.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic

from refsr_bench.collectors.curation.clean import Pool
from refsr_bench.collectors.curation.decisions import labels_path, read_decisions, record
from refsr_bench.collectors.curation.pictures import THUMBNAIL_PX, VIEW_PX, encode_jpeg, shrink
from refsr_bench.collectors.curation.rows import CATEGORIES, Decision, now, to_json
from refsr_bench.disk import atomic_write_bytes, publishing, sha256_bytes
from refsr_bench.images import load_image
from refsr_bench.localweb import guard
from refsr_bench.store import Dataset

if TYPE_CHECKING:
    from flask import Flask

MAX_REVIEWER = 60
INDEX_NAME = "index.html"
PICTURES_NAME = "pictures"
DATA_TAG = '<script id="data" type="application/json">'
"""Stands in a static page and in no other."""
SIZES = {"small": THUMBNAIL_PX, "large": VIEW_PX}


class Pictured(NamedTuple):
    """What is reviewed: a name, where its picture lies, its facts, its candidates in order (none to label only)."""

    name: str
    path: Path
    facts: dict[str, Any]
    candidates: tuple[tuple[Path, dict[str, Any]], ...] = ()


class Review(NamedTuple):
    """Everything a page needs to know."""

    title: str
    items: tuple[Pictured, ...]
    journal: Path
    thumbnails: Path
    blind: bool = False
    tags_only: bool = False

    @property
    def id(self) -> str:
        """Tells this review's decisions in a browser from those of another one."""
        return sha256_bytes("\n".join([str(self.journal), *(item.name for item in self.items)]).encode())[:12]


def review_pools(work: Path, pools: list[Pool], journal: Path, *, blind: bool = False) -> Review:
    """The review of a curation folder: every query, its ranked candidates."""
    items = []
    for pool in pools:
        candidates = []
        for row in pool.rows:
            if row.rank is None or row.score is None:
                continue
            origin = row.candidate.origin
            facts = {
                "sha256": row.candidate.sha256, "width": row.width, "height": row.height, "title": origin.title,
                "creator": origin.creator, "licence": origin.licence, "score": row.score.total,
                "inliers": row.score.matcher_inliers or row.score.inliers,
            }  # fmt: skip
            candidates.append((work / str(row.candidate.file), facts))
        query = pool.query
        facts = {"sha256": query.sha256, "width": query.width, "height": query.height, "text": query.text}
        items.append(Pictured(query.name, work / query.file, facts, tuple(candidates)))
    return Review("Choose references", tuple(items), journal, work / "thumbnails", blind=blind)


def review_dataset(dataset: Dataset) -> Review:
    """The review of a built dataset's pictures, to label them with categories; labels lie beside the dataset."""
    items = tuple(
        Pictured(
            record.name,
            dataset.root / record.hr.path,
            {"sha256": record.hr.sha256, "width": record.hr.width, "height": record.hr.height, "text": record.group},
        )
        for record in dataset.records
        if record.hr is not None
    )
    return Review(
        dataset.info.id, items, labels_path(dataset.root), dataset.root.with_name(f".{dataset.root.name}.thumbnails"),
        tags_only=True,
    )  # fmt: skip


def page_data(review: Review, reviewer: str, decisions: list[Decision]) -> dict[str, Any]:
    """What the script is told: queries, candidates, and this reviewer's own decisions."""
    return {
        "id": review.id,
        "title": "Label pictures" if review.tags_only else review.title,
        "blind": review.blind,
        "tags_only": review.tags_only,
        "categories": CATEGORIES,
        "queries": [
            {"name": item.name, **item.facts, "candidates": _in_order(item, review.blind, reviewer)}
            for item in review.items
        ],
        "decisions": [to_json(row) for row in decisions if row.reviewer == reviewer],
    }


def _in_order(item: Pictured, blind: bool, reviewer: str) -> list[dict[str, Any]]:
    found = [facts for _, facts in item.candidates]
    if not blind:
        return found
    shuffled = sorted(found, key=lambda facts: sha256_bytes(f"{reviewer}\0{facts['sha256']}".encode()))
    return [{**facts, "score": None, "inliers": None} for facts in shuffled]


def make_app(review: Review, token: str) -> Flask:
    """The web application; every decision is on disk before it is confirmed."""
    from flask import Flask, Response, abort, request

    app = Flask(__name__, static_folder=None)
    guard(app, token)
    lock = threading.Lock()
    pictures = _pictures(review)
    known = {item.name: {str(facts["sha256"]) for _, facts in item.candidates} for item in review.items}

    def page() -> Response:
        head = '<link rel="stylesheet" href="/review.css">'
        script = '<script src="/review.js"></script>'
        return Response(_fill(head, script), mimetype="text/html")

    def asset(kind: str) -> Response:
        return Response(_read_asset(f"review.{kind}"), mimetype={"js": "text/javascript", "css": "text/css"}[kind])

    def data() -> Response:
        reviewer = _reviewer(request.args.get("reviewer"))
        if reviewer is None:
            abort(400, "who reviews?")
        with lock:
            decisions = read_decisions(review.journal)
        return Response(json.dumps(page_data(review, reviewer, decisions)), mimetype="application/json")

    def picture(size: str, sha256: str) -> Response:
        if size not in SIZES or sha256 not in pictures:
            abort(404)
        answer = Response(_small(review, pictures[sha256], sha256, SIZES[size]).read_bytes(), mimetype="image/jpeg")
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"  # its name is its content
        return answer

    def decide() -> Response:
        try:
            decision = check_decision(request.get_json(silent=True), known)
        except ValueError as error:
            return Response(str(error), 400, mimetype="text/plain")
        with lock:
            record(review.journal, decision)
        return Response('{"saved": true}', mimetype="application/json")

    app.add_url_rule("/", view_func=page)
    app.add_url_rule("/review.js", "script", lambda: asset("js"))
    app.add_url_rule("/review.css", "style", lambda: asset("css"))
    app.add_url_rule("/data", view_func=data)
    app.add_url_rule("/picture/<size>/<sha256>", view_func=picture)
    app.add_url_rule("/decide", view_func=decide, methods=["POST"])
    return app


def check_decision(value: object, known: Mapping[str, set[str]]) -> Decision:
    """A decision as a page or a file gives it, checked against what there is; `ValueError` says what is wrong."""
    try:
        decision = Decision.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    if _reviewer(decision.reviewer) != decision.reviewer or not re.fullmatch(r"[\w-]{8,64}", decision.id):
        raise ValueError("a decision needs a reviewer's name and an id")
    if decision.query not in known:
        raise ValueError(f"there is no query {decision.query!r}")
    if decision.action == "choose" and decision.reference not in known[decision.query]:
        raise ValueError(f"{decision.query}: the chosen picture is not one of its candidates")
    if decision.action == "tag" and decision.category not in CATEGORIES:
        raise ValueError(f"there is no category {decision.category!r} (known: {', '.join(CATEGORIES)})")
    if decision.action == "reject" and not decision.reason.strip():
        raise ValueError(f"{decision.query}: a rejection needs a reason")
    if (decision.action == "undo") != (decision.undoes is not None):
        raise ValueError("an undo names the decision it undoes, and nothing else does")
    return decision.model_copy(update={"time": _checked_time(decision.time), "reason": decision.reason.strip()[:300]})


def _checked_time(text: str) -> str:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return now()
    return text


def _reviewer(name: str | None) -> str | None:
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in name or "").split())[:MAX_REVIEWER]
    return cleaned or None


def _pictures(review: Review) -> dict[str, Path]:
    found = {}
    for item in review.items:
        found[str(item.facts["sha256"])] = item.path
        found.update({str(facts["sha256"]): path for path, facts in item.candidates})
    return found


def _small(review: Review, path: Path, sha256: str, longest_px: int) -> Path:
    copy = review.thumbnails / str(longest_px) / f"{sha256}.jpg"
    if not copy.is_file():
        atomic_write_bytes(copy, encode_jpeg(shrink(load_image(path), longest_px)))
    return copy


def _read_asset(name: str) -> str:
    return (importlib.resources.files("refsr_bench.collectors.curation") / "page" / name).read_text("utf-8")


def _fill(head: str, script: str) -> str:
    return _read_asset("review.html").replace("<!--HEAD-->", head).replace("<!--SCRIPT-->", script)


def write_static(review: Review, folder: Path, top: int, progress: Callable[[int, int], None]) -> Path:
    """Write the page as a folder that works from disk: decisions stay in the browser and are saved to a file.

    Only the ``top`` best candidates of each query go along. An earlier page is replaced; `UsageError` if ``folder``
    holds anything else.
    """
    with publishing(folder, _is_page, "review page") as work:
        _write_page(review, work, top, progress)
    return folder / INDEX_NAME


def _is_page(folder: Path) -> bool:
    """Whether a folder is a static page and nothing besides: a file of decisions may have been saved into it."""
    if not {path.name for path in folder.iterdir()} <= {INDEX_NAME, PICTURES_NAME}:
        return False
    index = folder / INDEX_NAME
    return index.is_file() and DATA_TAG.encode() in index.read_bytes()


def _write_page(review: Review, folder: Path, top: int, progress: Callable[[int, int], None]) -> None:
    items = tuple(item._replace(candidates=item.candidates[:top]) for item in review.items)
    review = review._replace(items=items)
    pictures = _pictures(review)
    for done, (sha256, path) in enumerate(pictures.items(), 1):
        for size, longest_px in SIZES.items():
            copy = folder / PICTURES_NAME / size / f"{sha256}.jpg"
            atomic_write_bytes(copy, _small(review, path, sha256, longest_px).read_bytes())
        progress(done, len(pictures))
    style, script = _read_asset("review.css"), _read_asset("review.js")
    value = json.dumps(page_data(review, "", []))
    for character in "<>&\u2028\u2029":  # nothing inside can end the element it stands in
        value = value.replace(character, f"\\u{ord(character):04x}")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>'
    body = f"{DATA_TAG}{value}</script>\n<script>{script}</script>"
    atomic_write_bytes(folder / INDEX_NAME, _fill(head, body).encode())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
