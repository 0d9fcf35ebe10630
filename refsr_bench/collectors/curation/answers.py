"""What a server's answer is worth: opt-outs, sizes, types; whether a body is a picture. And the limits of a run."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from refsr_bench.collectors.http import Timeouts, read_body

if TYPE_CHECKING:
    from requests import Response

AGENT = "refsr-bench"
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
MAX_ANSWER_BYTES = 20_000_000

_MAGIC = {
    ".jpg": (b"\xff\xd8\xff",),
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".tif": (b"II*\0", b"MM\0*"),
    ".bmp": (b"BM",),
}
_OTHER = {
    b"GIF8": "a GIF",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML or an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"SIMPLE  =": "FITS",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


class Manners(NamedTuple):
    """Limits of one run."""

    contact: str
    """An e-mail address or page where site owners reach the person who runs this."""
    per_second: float = 2.0
    """Requests a second to one host."""
    max_bytes: int = 50_000_000
    within_s: float = 120.0
    attempts: int = 4
    max_wait_s: float = 300.0
    """Longest wait a server may ask for before the picture is left for a later run."""
    backoff_s: float = 1.0
    timeouts: Timeouts = Timeouts(15.0, 30.0)
    allow_private: bool = False


class Fault(Exception):
    """Why there is no body, in words for the row; ``refused``: our choice; ``lasting``: asking again is vain."""

    def __init__(self, reason: str, *, refused: bool = False, lasting: bool = True, status: int | None = None) -> None:
        super().__init__(reason)
        self.refused = refused
        self.lasting = lasting
        self.status = status
        self.robots = "not asked"


class Asked(Exception):
    """The server asks to wait."""

    def __init__(self, reason: str, status: int | None, wait_s: float | None) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_s = wait_s


def opts_out(header: str | None) -> str | None:
    """The directive of an ``X-Robots-Tag`` header that keeps us from using a picture, None if none does.

    >>> opts_out("noarchive, noai"), opts_out("otherbot: noindex"), opts_out("refsr-bench: noindex")
    ('noai', None, 'noindex')
    """
    meant = True
    for part in (header or "").lower().split(","):
        agent, colon, directive = part.partition(":")
        if colon and agent.strip() not in {"unavailable_after", "max-image-preview", "max-snippet"}:
            meant = agent.strip() in {AGENT, "*"}
        else:
            directive = part
        if meant and directive.strip() in OPT_OUTS:
            return directive.strip()
    return None


def take_answer(response: Response, manners: Manners) -> bytes:
    """The body of an API's answer, up to `MAX_ANSWER_BYTES`."""
    return read_body(response, MAX_ANSWER_BYTES, manners.within_s)


def take_picture(response: Response, manners: Manners) -> bytes:
    """The body of a picture; `Fault` if the server opts out or sends something else, `Asked` if it broke off."""
    if (directive := opts_out(response.headers.get("X-Robots-Tag"))) is not None:
        raise Fault(f"the server opts out: X-Robots-Tag {directive}", refused=True, status=200)
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared and not declared.startswith("image/") and declared != "application/octet-stream":
        raise Fault(f"the server sends {declared[:60]}, not a picture", status=200)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > manners.max_bytes:
        raise Fault(f"announces {int(length):,} bytes, the limit is {manners.max_bytes:,}", refused=True, status=200)
    body = read_body(response, manners.max_bytes, manners.within_s)
    if length.isdigit() and "Content-Encoding" not in response.headers and len(body) != int(length):
        raise Asked(f"the body ends after {len(body):,} of {int(length):,} bytes", 200, None)
    return body


def picture_suffix(body: bytes, url: str = "") -> str:
    """The suffix that a picture's content asks for; `Fault` for anything else, or if the address names another kind.

    >>> picture_suffix(b"\\xff\\xd8\\xff\\xe0", "https://a.example/x.jpeg?size=l")
    '.jpg'
    """
    if not body:
        raise Fault("the body is empty")
    suffix = next((known for known, magics in _MAGIC.items() if body.startswith(magics)), None)
    if suffix is None and body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        suffix = ".webp"
    if suffix is None:
        kind = next((what for magic, what in _OTHER.items() if body.lstrip()[:16].startswith(magic)), None)
        if body[4:8] == b"ftyp":
            kind = "AVIF or HEIC"
        raise Fault(f"not a picture of an accepted format{f' but {kind}' if kind else ''}")
    named = PurePosixPath(unquote(urlsplit(url).path)).suffix.lower()
    named = _SAME_SUFFIX.get(named, named)
    if named in {*_MAGIC, ".webp"} and named != suffix:
        raise Fault(f"its content is {suffix[1:].upper()} but its address ends in {named}")
    return suffix
