"""A web page for the people at this computer: served on 127.0.0.1, opened by a secret link, closed to everything else.

What protects it, and from what:

* it listens on 127.0.0.1 only: other machines cannot reach it;
* a random token, given once in the link and then kept in a cookie that scripts cannot read: other users of this
  computer cannot open it;
* the Host header must name this computer: a web site whose name is made to lead here (DNS rebinding) is refused;
* a request that another page started is refused: no foreign page can write through the reviewer's browser;
* a content security policy without inline code: hostile text in titles and captions stays text.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import filelock

from refsr_bench.errors import UsageError

if TYPE_CHECKING:
    from flask import Flask, Request, Response
    from werkzeug.wrappers import Response as AnyResponse

ADDRESS = "127.0.0.1"
MAX_REQUEST_BYTES = 1_000_000
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def load_token(path: Path) -> str:
    """The page's secret, kept in a file only its owner can read, so that an open page outlives a restarted server."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f"{path.name}.lock")):  # two servers may start at once
        if not path.exists():
            fresh = path.with_name(f"{path.name}.part")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(24), "ascii")
            fresh.replace(path)
    path.chmod(0o600)
    token = path.read_text("ascii").strip()
    if len(token) < 16:
        raise UsageError(f"{path}: holds no token", "delete it, a new one is made")
    return token


def guard(app: Flask, token: str) -> None:
    """Refuse every request to ``app`` that does not come from this computer with the token; see the module."""
    from flask import abort, redirect, request

    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES

    def check() -> AnyResponse | None:
        if not _is_here(request.host, request.environ.get("SERVER_PORT", "")):
            abort(421, "this address is not served here")
        if _is_foreign(request) and (request.method, request.path) != ("GET", "/"):  # a link to the page may be clicked
            abort(403, "asked for by another page")
        cookie = _cookie_name(request.environ.get("SERVER_PORT", ""))
        given = request.args.get("token")
        if given is not None and _equal(given, token):
            rest = {key: value for key, value in request.args.items() if key != "token"}
            answer = redirect(_with_query(request.path, rest), code=303)
            answer.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
            return answer
        if not _equal(request.cookies.get(cookie, ""), token):
            abort(403, "open the link that the command printed: it carries the token")
        return None

    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.before_request(check)
    app.after_request(add_headers)


def _is_foreign(request: Request) -> bool:
    """Whether another page made the browser send this."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return True
    return request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}


def _is_here(host: str, port: str) -> bool:
    name, _, given = host.partition(":")
    return name in {ADDRESS, "localhost"} and (given or "80") == str(port)


def _equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _cookie_name(port: str) -> str:
    return f"refsr_{port}"  # cookies know no ports: two pages at once must not overwrite each other's


def _with_query(path: str, arguments: dict[str, str]) -> str:
    return f"{path}?{urlencode(arguments)}" if arguments else path


def serve(app: Flask, token: str, *, port: int, announce: Callable[[str], None], query: str = "") -> None:
    """Serve a guarded ``app`` until Ctrl-C; ``announce`` is told the secret link.

    ``port`` 0 takes any free one. `UsageError` if the port is taken. ``query`` is added to the link (``reviewer=ann``).
    """
    import logging

    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # its request log would print the token
    try:
        server = make_server(ADDRESS, port, app, threaded=True)
    except (OSError, SystemExit):
        raise UsageError(
            f"port {port} of this computer is in use", "stop the other server, or choose another with --port"
        ) from None
    announce(f"http://{ADDRESS}:{server.server_port}/?token={token}{'&' + query if query else ''}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
