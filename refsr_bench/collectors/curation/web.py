"""Manners on the network: who we are, what a site allows, how fast, how much.

* An honest User-Agent with a contact; robots.txt of every host a picture comes from (also after a redirect); the
  opt-outs of ``X-Robots-Tag``. A robots.txt that answers 5xx or nothing forbids, one that is missing allows (RFC 9309).
  Documented APIs are made for programs: they are asked under their own limits, without robots.txt.
* One limit per host that holds over all threads; ``Retry-After`` stops the whole host.
* Size, time and type limits. Addresses are judged by `refsr_bench.collectors.http`.
* A key goes into the request and nowhere else: messages, rows and cached answers hold ``***`` in its place.
"""

from __future__ import annotations

import email.utils
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from refsr_bench import __version__
from refsr_bench.collectors.curation.answers import AGENT, Asked, Fault, Manners, take_answer, take_picture
from refsr_bench.collectors.http import ConnectionFailed, Offline, Refused, http_get, read_body

if TYPE_CHECKING:
    from protego import Protego
    from requests import Response

MAX_ROBOTS_BYTES = 512_000
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class Answer(NamedTuple):
    """A body that was taken, and how."""

    body: bytes
    status: int
    robots: str


class Web:
    """What one run knows of the hosts it asks: their robots.txt and when each may be asked again."""

    def __init__(self, manners: Manners, note: Callable[[str], None] = lambda text: None) -> None:
        self.manners = manners
        self.agent = f"{AGENT}/{__version__} (research dataset builder; contact: {manners.contact})"
        self._note = note
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = defaultdict(float)
        self._stopped_until: dict[str, float] = defaultdict(float)
        self._interval: dict[str, float] = {}
        self._robots: dict[str, Protego | str | None] = {}
        self._robots_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every wait of every thread with a `Fault`: the run was interrupted."""
        self._stopped.set()

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Fault("the run was interrupted", lasting=False)

    # --- asking ----------------------------------------------------------------------------------------------------

    def get_picture(self, url: str) -> Answer:
        """A picture's bytes, if its host and its headers allow it; `Fault` says why not."""
        verdict = ["not asked"]

        def before(step: str) -> None:
            verdict[0] = self._ask_robots(step)
            if verdict[0] != "allowed":
                lasting = verdict[0] == "disallowed"
                raise Fault(f"robots.txt of {_host(step)}: {verdict[0]}", refused=True, lasting=lasting)

        try:
            body, status = self._get(
                url, {"Accept": "image/jpeg, image/png, image/tiff, image/bmp"}, before, take_picture
            )
        except Fault as fault:
            fault.robots = verdict[0]
            raise
        return Answer(body, status, verdict[0])

    def get_json(
        self, url: str, params: Mapping[str, str], secrets: Mapping[str, str], headers: Mapping[str, str]
    ) -> Any:
        """What a documented API answers; ``secrets`` are more parameters, which appear in no message."""
        if secrets or headers:
            logging.getLogger("urllib3").setLevel(logging.INFO)  # its debug lines would show the address with the key
        address = f"{url}?{urlencode({**params, **secrets})}"
        hidden = [*secrets.values(), *headers.values()]
        try:
            body, _ = self._get(address, {"Accept": "application/json", **headers}, lambda step: None, take_answer)
            return json.loads(redact(body.decode("utf-8", "replace"), hidden))
        except Fault as fault:
            raise Fault(redact(str(fault), hidden), lasting=fault.lasting, status=fault.status) from None
        except ValueError:
            raise Fault(f"{url}: the answer is not JSON", lasting=False) from None

    def _get(
        self,
        url: str,
        headers: Mapping[str, str],
        before: Callable[[str], None],
        take: Callable[[Response, Manners], bytes],
    ) -> tuple[bytes, int]:
        """One body, trying again after passing faults; every request waits for its host's turn."""

        def step(address: str) -> None:
            before(address)
            self._wait_for_turn(_host(address))

        for attempt in range(1, self.manners.attempts + 1):
            try:
                with http_get(
                    url,
                    {"User-Agent": self.agent, **headers},
                    timeouts=self.manners.timeouts,
                    allow_private=self.manners.allow_private,
                    before=step,
                ) as response:
                    if response.status_code in _TRANSIENT:
                        wait_s = retry_after_s(response.headers.get("Retry-After"))
                        raise Asked(f"the server answers {response.status_code}", response.status_code, wait_s)
                    if response.status_code != 200:
                        raise Fault(f"the server answers {response.status_code}", status=response.status_code)
                    return take(response, self.manners), 200
            except Offline as error:
                raise Fault(error.problem, lasting=False, refused=True) from None
            except Refused as error:
                raise Fault(error.problem, refused=True) from None
            except (ConnectionFailed, Asked) as error:
                self._hold(url, error, attempt)
        raise AssertionError("unreachable")

    def _hold(self, url: str, error: ConnectionFailed | Asked, attempt: int) -> None:
        """Wait before the next try, the whole host if its server asked for it; `Fault` if there is none."""
        status = error.status if isinstance(error, Asked) else None
        asked_s = error.wait_s if isinstance(error, Asked) else None
        reason = error.problem if isinstance(error, ConnectionFailed) else str(error)
        if attempt == self.manners.attempts:
            raise Fault(reason, lasting=False, status=status) from None
        if asked_s is not None and asked_s > self.manners.max_wait_s:
            raise Fault(f"{reason} and asks to wait {asked_s:,.0f} s", lasting=False, status=status) from None
        wait_s = self.manners.backoff_s * 2 ** (attempt - 1) if asked_s is None else asked_s
        if status in (429, 503) and asked_s is not None:
            self._stop_host(_host(url), wait_s)
        else:
            self._sleep(wait_s)

    # --- pace ------------------------------------------------------------------------------------------------------

    def _wait_for_turn(self, host: str) -> None:
        """Return when ``host`` may be asked; turns are given out in order, over all threads."""
        with self._lock:
            interval = self._interval.get(host, 1.0 / self.manners.per_second)
            turn = max(time.monotonic(), self._free_at[host], self._stopped_until[host])
            self._free_at[host] = turn + interval
        while (left := max(turn, self._stopped_until[host]) - time.monotonic()) > 0:
            self._sleep(left)
            if self._stopped_until[host] > turn:  # the host was stopped meanwhile: queue again behind the stop
                self._wait_for_turn(host)
                return

    def _stop_host(self, host: str, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        with self._lock:
            if until > self._stopped_until[host] + 0.5:
                self._note(f"{host} asks to wait {wait_s:,.0f} s")
            self._stopped_until[host] = max(self._stopped_until[host], until)

    # --- robots.txt ------------------------------------------------------------------------------------------------

    def _ask_robots(self, url: str) -> str:
        """ "allowed", "disallowed", or why robots.txt could not be read; each host is asked once a run."""
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        with self._robots_locks[place]:
            if place not in self._robots:
                self._robots[place] = self._fetch_robots(place)
                self._heed_crawl_delay(place)
        rules = self._robots[place]
        if rules is None:
            return "allowed"
        if isinstance(rules, str):
            return rules
        return "allowed" if rules.can_fetch(url, AGENT) else "disallowed"

    def _fetch_robots(self, place: str) -> Protego | str | None:
        from protego import Protego

        try:
            with http_get(
                f"{place}/robots.txt",
                {"User-Agent": self.agent},
                timeouts=self.manners.timeouts,
                allow_private=self.manners.allow_private,
                before=lambda step: self._wait_for_turn(_host(step)),
            ) as response:
                if response.status_code == 429 or response.status_code >= 500:
                    return f"cannot be read (the server answers {response.status_code})"
                if response.status_code != 200:
                    return None
                return Protego.parse(read_body(response, MAX_ROBOTS_BYTES, 30.0).decode("utf-8", "replace"))
        except ConnectionFailed as error:
            return f"cannot be read ({error.problem})"
        except Refused as error:
            raise Fault(error.problem, refused=True) from None

    def _heed_crawl_delay(self, place: str) -> None:
        rules = self._robots[place]
        if rules is not None and not isinstance(rules, str) and (delay := rules.crawl_delay(AGENT)):
            self._interval[_host(place)] = max(min(float(delay), 60.0), 1.0 / self.manners.per_second)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def redact(text: str, secrets: list[str]) -> str:
    """``text`` with every secret, also as it stands in an address, replaced by ``***``."""
    for secret in secrets:
        for form in (secret, urlencode({"": secret})[1:]):
            text = text.replace(form, "***") if form else text
    return text


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait, given as seconds or as a date; None if it says nothing.

    >>> retry_after_s("7"), retry_after_s("soon"), retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT")
    (7.0, None, 0.0)
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
