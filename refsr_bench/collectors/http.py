"""One guarded way to ask a web server: honest about who asks, never led to a private address.

Every connection is opened to an address that was itself checked, so a name that resolves differently the second time
(DNS rebinding) leads nowhere. Redirects are followed here, one checked step at a time.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from refsr_bench import __version__
from refsr_bench.errors import NetworkError

if TYPE_CHECKING:
    from requests import Response

USER_AGENT = f"refsr-bench/{__version__} (dataset builder; python-requests)"
MAX_REDIRECTS = 5
OFFLINE = "REFSR_OFFLINE"


class Refused(NetworkError):
    """An address that is not asked: not http(s), private, a redirect loop, or a step down from https to http."""


class Offline(NetworkError):
    """`REFSR_OFFLINE` is set: no connection is opened."""


class ConnectionFailed(NetworkError):
    """No connection, or one that broke or went silent; ``reached`` if the server answered at all."""

    def __init__(self, problem: str, *, reached: bool = True) -> None:
        super().__init__(problem, "the same command goes on from what came in")
        self.reached = reached


class Timeouts(NamedTuple):
    """Seconds to wait for a connection and for the next bytes."""

    connect_s: float = 20.0
    read_s: float = 60.0


def is_offline() -> bool:
    """Whether ``REFSR_OFFLINE`` forbids the network."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def require_online(what: str) -> None:
    """`Offline` if ``REFSR_OFFLINE`` forbids the network."""
    if is_offline():
        raise Offline(f"{what}: not fetched, {OFFLINE} is set", f"unset {OFFLINE} to allow the network")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, looking through addresses that embed another.

    >>> is_public("::ffff:127.0.0.1"), is_public("8.8.8.8")
    (False, True)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        teredo = ip.teredo[1] if ip.teredo else None
        embedded = ip.ipv4_mapped or ip.sixtofour or teredo
        if embedded is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def check_url(url: str) -> tuple[str, int]:
    """Host and port of an http(s) URL; `Refused` for any other scheme, a name and password, or no host."""
    try:
        parts = urlsplit(url)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        port = parts.port or default
    except ValueError as error:
        raise Refused(f"{url!r}: not an address ({error})") from None
    if default is None or port is None:
        raise Refused(f"{url!r}: only http and https addresses are asked")
    if not parts.hostname or parts.username is not None:
        raise Refused(f"{url!r}: an address needs a host, and no name or password in it")
    return parts.hostname, port


@contextmanager
def http_get(
    url: str,
    headers: Mapping[str, str],
    *,
    timeouts: Timeouts | None = None,
    allow_private: bool = False,
    before: Callable[[str], None] = lambda step: None,
) -> Iterator[Response]:
    """Ask for a URL and give the response, its body unread; redirects are followed within the rules.

    ``allow_private`` exempts the host and port of ``url`` itself (a server of one's own), never a redirect's target.
    ``before`` is told each address, also those of redirects, right before it is asked, and may raise.
    Raises `Refused`, `Offline` or, also for faults while the body is read, `ConnectionFailed`.
    """
    import requests

    require_online(url)
    exempt = check_url(url) if allow_private else None
    with _naming_connection_faults(url), requests.Session() as session:
        adapter = _guarded_adapter(exempt)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        seen = {url}
        for _ in range(MAX_REDIRECTS + 1):
            _refuse_private_literal(check_url(url), exempt)
            before(url)
            with session.get(
                url, headers=dict(headers), stream=True, allow_redirects=False, timeout=timeouts or Timeouts()
            ) as response:
                if not response.is_redirect:
                    yield response
                    return
                target = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
                raise Refused(f"{url}: redirects from https to http ({target})")
            if target in seen:
                raise Refused(f"{url}: redirects in a circle ({target})")
            seen.add(target)
            url = target
        raise Refused(f"{url}: more than {MAX_REDIRECTS} redirects")


def read_body(response: Response, max_bytes: int, within_s: float = 120.0) -> bytes:
    """The whole decompressed body of a small answer; `Refused` if it is longer than ``max_bytes`` or trickles."""
    deadline = time.monotonic() + within_s
    body = bytearray()
    while piece := response.raw.read1(65536, decode_content=True):
        body += piece
        if len(body) > max_bytes:
            raise Refused(f"{response.url}: sends more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise Refused(f"{response.url}: not whole after {within_s:,.0f} s")
    return bytes(body)


@contextmanager
def _naming_connection_faults(url: str) -> Iterator[None]:
    import requests
    import urllib3

    try:
        yield
    except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        raise ConnectionFailed(f"{url}: the server does not answer in time") from None
    except (ConnectionError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        unreachable = any(word in repr(error) for word in ("NameResolution", "NewConnection"))
        what = "the server cannot be reached" if unreachable else f"the connection broke ({type(error).__name__})"
        raise ConnectionFailed(f"{url}: {what}", reached=not unreachable) from None


def _refuse_private_literal(place: tuple[str, int], exempt: tuple[str, int] | None) -> None:
    """Refuse a private address written as a number, in any of the forms that system calls understand.

    Names are judged where they are resolved: in `_connect_checked`, or by a proxy, which resolves its own.
    """
    host = place[0]
    with suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))
    with suppress(ValueError):
        if not is_public(host) and place != exempt:
            raise Refused(f"{place[0]}: a private address, which is not asked")


def _guarded_adapter(exempt: tuple[str, int] | None) -> Any:
    """A transport adapter of requests whose connections go to checked addresses only."""
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class PlainConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect_checked(self, exempt)

    class SecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect_checked(self, exempt)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    return Adapter()


def _connect_checked(connection: Any, exempt: tuple[str, int] | None) -> socket.socket:
    """Resolve once, check, and connect to the very address that was checked."""
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    host, port = connection._dns_host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(host, connection, cause) from error
    if (host, port) != exempt:
        for *_, address in found:
            if not is_public(str(address[0])):
                raise Refused(f"{host}: leads to the private address {address[0]}, which is not asked")
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            return _open_socket(family, kind, protocol, address, connection.timeout)
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"Connection to {host} timed out") from failure
    raise NewConnectionError(connection, f"Failed to establish a new connection: {failure}") from failure


def _open_socket(family: int, kind: int, protocol: int, address: Any, timeout: Any) -> socket.socket:
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(timeout, int | float):
            opened.settimeout(timeout)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened
