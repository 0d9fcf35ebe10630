"""A small web on 127.0.0.1 that speaks the JSON of Openverse, Commons and Flickr, and misbehaves where told to.

Runs in a process of its own (``python curation_server.py PLAN.json``), so that a test can measure and kill the client.
``PLAN.json`` holds ``pictures`` ({path: file}), ``searches`` ({text: [picture entries]}), ``robots`` (text or status),
``faults`` ({path: [kinds, one a request; the last one stays]}), ``storm_at`` (requests number N to N+40 get a 429).
"""

from __future__ import annotations

import json
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "s3cret-key&x"


class Small(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = plan
        self.lock = threading.Lock()
        self.asked: list[tuple[float, str, str]] = []
        self.bytes = {path: Path(file).read_bytes() for path, file in plan.get("pictures", {}).items()}
        self.many = [Path(file).read_bytes() for file in plan.get("many", [])]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Small
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append((time.monotonic(), self.path, self.headers.get("User-Agent", "")))
            turns = self.server.plan.get("faults", {}).get(parts.path)
            fault = (turns.pop(0) if len(turns) > 1 else turns[0]) if turns else None
        storm_at = self.server.plan.get("storm_at")
        if parts.path == "/asked":
            return self._reply(200, json.dumps(self.server.asked).encode(), "application/json")
        if storm_at is not None and storm_at <= number < storm_at + 40 and parts.path.startswith("/p/"):
            return self._reply(429, b"slow down", "text/plain", {"Retry-After": "1"})
        if fault is not None:
            return self._misbehave(fault)
        if parts.path == "/robots.txt":
            robots = self.server.plan.get("robots", 404)
            return (
                self._reply(robots, b"", "text/plain")
                if isinstance(robots, int)
                else self._reply(200, robots.encode(), "text/plain")
            )
        if parts.path.startswith("/p/many/") and self.server.many:  # one file each: bytes behind a JPEG's end mark
            index = int(Path(parts.path).stem)
            body = self.server.many[index % len(self.server.many)] + index.to_bytes(4, "big")
            return self._reply(200, body, "image/jpeg")
        if parts.path in self.server.bytes:
            return self._reply(200, self.server.bytes[parts.path], "image/jpeg")
        answer = {"/openverse": self._openverse, "/commons": self._commons, "/flickr": self._flickr}.get(parts.path)
        if answer is None:
            return self._reply(404, b"not here", "text/html")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return self._reply(200, json.dumps(answer(query)).encode(), "application/json")

    def _reply(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body)), "Content-Type": kind} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _misbehave(self, fault: str) -> None:
        kind, _, value = fault.partition(" ")
        picture = next(iter(self.server.bytes.values()), b"")
        if kind == "status":
            self._reply(int(value), b"no", "text/html")
        elif kind == "busy":
            self._reply(429, b"no", "text/plain", {"Retry-After": value})
        elif kind == "to":
            self._reply(302, b"", "text/html", {"Location": value})
        elif kind == "noai":
            self._reply(200, picture, "image/jpeg", {"X-Robots-Tag": "noarchive, noai"})
        elif kind == "html":
            self._reply(200, b"<!DOCTYPE html><p>log in", "image/jpeg")
        elif kind == "page":
            self._reply(200, b"<!DOCTYPE html><p>log in", "text/html")
        elif kind == "cut":
            self._reply(200, picture[: len(picture) // 2], "image/jpeg", {"Content-Length": str(len(picture))})
        elif kind == "file":
            self._reply(200, Path(value).read_bytes(), "image/jpeg")
        elif kind == "endless":
            self._endless()
        elif kind == "bomb":
            body = zlib.compress(b"\xff\xd8\xff" + bytes(40_000_000))
            self._reply(200, body, "image/jpeg", {"Content-Encoding": "deflate"})
        elif kind == "slow":
            time.sleep(float(value))
        else:
            raise AssertionError(fault)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"\xff\xd8\xff" + bytes(65536))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _entries(self, text: str) -> list[dict[str, Any]]:
        return [
            {**entry, "url": self.server.url + entry["url"]} for entry in self.server.plan["searches"].get(text, [])
        ]

    def _openverse(self, query: dict[str, str]) -> dict[str, Any]:
        size, page = int(query["page_size"]), int(query["page"])
        assert size <= 20, "anonymous callers get 401 beyond 20"
        found = self._entries(query["q"])
        results = [
            {
                "id": entry["url"], "title": entry.get("title", ""), "foreign_landing_url": entry["url"] + "?landing",
                "url": entry["url"], "creator": entry.get("creator", "Ann"), "license": entry.get("license", "by"),
                "license_version": "4.0",
                "license_url": f"https://creativecommons.org/licenses/{entry.get('license', 'by')}/4.0/",
                "provider": "flickr", "source": "flickr", "mature": False, "tags": [],
            }
            for entry in found[(page - 1) * size : page * size]
        ]  # fmt: skip
        return {
            "result_count": len(found),
            "page_count": -(-len(found) // size),
            "page_size": size,
            "page": page,
            "results": results,
        }

    def _commons(self, query: dict[str, str]) -> dict[str, Any]:
        def meta(entry: dict[str, Any]) -> dict[str, Any]:
            licence = entry.get("license", "by-sa")
            return {
                "Artist": {"value": "<a href='//x'>Bo</a>"},
                "LicenseShortName": {"value": f"CC {licence.upper()} 4.0"},
                "LicenseUrl": {"value": f"https://creativecommons.org/licenses/{licence}/4.0/"},
            }

        text = query["gsrsearch"].removesuffix(" filetype:bitmap")
        found, limit, offset = self._entries(text), int(query["gsrlimit"]), int(query.get("gsroffset", 0))
        pages = [
            {
                "pageid": index, "ns": 6, "title": f"File:{entry.get('title', 'x')}.jpg", "index": index + 1,
                "imageinfo": [
                    {
                        "url": entry["url"], "descriptionurl": entry["url"] + "?page", "width": 800, "height": 600,
                        "size": 1, "mime": "image/jpeg", "sha1": "0",
                        "extmetadata": meta(entry),
                    }
                ],
            }
            for index, entry in enumerate(found)
        ][offset : offset + limit]  # fmt: skip
        more = (
            {"continue": {"gsroffset": offset + limit, "continue": "gsroffset||"}}
            if offset + limit < len(found)
            else {}
        )
        return {"batchcomplete": True, "query": {"pages": pages[::-1]}, **more}

    def _flickr(self, query: dict[str, str]) -> dict[str, Any]:
        if query.get("api_key") != KEY:
            return {"stat": "fail", "code": 100, "message": f"Invalid API Key ({query.get('api_key')})"}
        found, size, page = self._entries(query["text"]), int(query["per_page"]), int(query["page"])
        photos = [
            {
                "id": str(index), "owner": "1@N0", "secret": "a", "server": "1", "farm": 1,
                "title": entry.get("title", ""),
                "license": entry.get("flickr", "4"), "ownername": "Cy", "url_l": entry["url"],
            }
            for index, entry in enumerate(found)
        ][(page - 1) * size : page * size]  # fmt: skip
        return {
            "photos": {
                "page": page,
                "pages": -(-len(found) // size),
                "perpage": size,
                "total": len(found),
                "photo": photos,
            },
            "stat": "ok",
        }

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    small = Small(json.loads(Path(sys.argv[1]).read_text()))
    print(small.url, flush=True)
    small.serve_forever()
