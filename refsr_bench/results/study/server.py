"""Serves a study to raters at this computer."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from refsr_bench.localweb import guard
from refsr_bench.results.study.answers import Answer, append_answer, check_answer, read_answers
from refsr_bench.results.study.create import PAGE_FILES, render_page
from refsr_bench.results.study.design import PUBLIC_NAME, read_study

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.wrappers import Response


def make_app(folder: Path, token: str) -> Flask:
    """The study in ``folder`` as a guarded web application: ``/`` the page, ``/begin``, ``/answers``."""
    from flask import Flask, abort, jsonify, request, send_file

    study = read_study(folder)
    page = render_page(study, served=True)
    pictures = {token for pair in study.pairs for token in pair.pictures}
    desk = _Desk(folder)
    app = Flask(__name__, static_folder=None)
    guard(app, token)

    @app.get("/")
    def index() -> str:
        return page

    @app.get("/<name>")
    def asset(name: str) -> Response:
        if name not in PAGE_FILES:
            abort(404)
        return send_file(Path(__file__).parent / "page" / name)

    @app.get("/img/<name>.png")
    def picture(name: str) -> Response:
        if name not in pictures:
            abort(404)
        return send_file((folder / PUBLIC_NAME / "img" / f"{name}.png").resolve())

    @app.post("/begin")
    def begin() -> Response:
        given = request.get_json(silent=True)
        rater = given.get("rater") if isinstance(given, dict) else None
        return jsonify(desk.begin(rater if isinstance(rater, str) else None))

    @app.post("/answers")
    def answers() -> tuple[Response, int]:
        try:
            answer = Answer.model_validate(request.get_json(silent=True))
        except pydantic.ValidationError:
            return jsonify(error="not an answer"), 400
        reason = desk.take(answer)
        return (jsonify(ok=True), 200) if reason is None else (jsonify(error=reason), 409)

    return app


class _Desk:
    """Hands out sheets, the least used first, and takes answers, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = read_study(folder)
        self.lock = threading.Lock()
        known = read_answers(folder, self.study).valid
        self.sheets = {answer.rater: answer.sheet for answer in known}
        self.done = {(answer.rater, answer.pair) for answer in known}

    def begin(self, rater: str | None) -> dict[str, object]:
        with self.lock:
            if rater is None or rater not in self.sheets:
                rater = secrets.token_hex(8)
                used = Counter(self.sheets.values())
                self.sheets[rater] = min(range(len(self.study.sheets)), key=lambda sheet: used[sheet])
            done = [pair for known, pair in self.done if known == rater]
            return {"rater": rater, "sheet": self.sheets[rater], "done": done}

    def take(self, answer: Answer) -> str | None:
        reason = check_answer(self.study, answer)
        with self.lock:
            # A rater who had begun but not answered when the server was restarted is known by the first answer again.
            if reason is None and self.sheets.setdefault(answer.rater, answer.sheet) != answer.sheet:
                reason = "this rater was given another sheet"
            if reason is None and (answer.rater, answer.pair) in self.done:
                reason = "answered already"
            if reason is None:
                append_answer(self.folder, answer)
                self.done.add((answer.rater, answer.pair))
        return reason
