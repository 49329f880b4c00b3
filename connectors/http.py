"""The one HTTP client of all connectors: it reaches the hosts that its source names, and no others.

A name is resolved once, for the connection that is made, and what it means is judged then: an
address of this machine or of its link is reached only where the administrator of the machine named
that host and port (`Site.near`), whatever a name, a redirect or an odd spelling says. Proxies and
the environment are not asked. Answers are bounded in bytes and in time; what is worth asking again
is asked again, as slowly as the source wishes. No message holds a query, a header or a body.
"""

from __future__ import annotations

import base64
import email.utils
import os
import random
import re
import ssl
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import httpcore2
import httpx2

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
    no_room,
)
from appliance.types import Site
from connectors.wire import Pulse, addresses, trust, untrusted

ATTEMPTS = 5
LONGEST_WAIT_S = 30.0  # between two attempts; a source that wants more is left for the next run
REDIRECTS = 3
_TICKS = 3  # seconds that a file of this very second is waited for, at most
ANSWER_BYTES = 50_000_000  # of a listing; a file has the limit of its caller
_PORTS = {"http": 80, "https": 443}
_AGAIN = frozenset({429, 500, 502, 503, 504})
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?([/?][!-~]*)?")
_ODD = re.compile(r"[\\#@]|%(?![0-9A-Fa-f]{2})")
_OWN_HOST = DefaultCookiePolicy.DomainStrictNonDomain  # unless a cookie says otherwise
_PRIVATE = ("authorization", "cookie", "proxy-authorization")
Endpoint = tuple[str, str, int]  # scheme, host, port


class Outside(SourceDenied):
    """What a source does not ask, by its settings: mostly the end of a redirect."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} は、この取り込み元の接続先ではないため、つなぎません。")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # names in lower case
    url: str  # after redirects
    body: bytes = b""


@dataclass
class Http:
    """Asks the hosts of `origins`. Safe to use from several threads; close it when done.

    Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured, TooLarge. A 404 or 410
    is a reply, as is everything below 400.
    """

    origins: Collection[str]  # URLs; their scheme, host and port may be asked
    site: Site = field(default_factory=Site)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: httpx2.Auth | None = field(default=None, repr=False)
    per_second: float = 0.0  # requests, at most; 0: as many as there are
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    judge: Callable[[httpx2.Response, str], None] | None = None  # None: by the status alone
    fence: Callable[[str], bool] | None = None  # which URLs of these; None: all
    pool: Callable[..., httpcore2.ConnectionPool] = (
        httpcore2.ConnectionPool
    )  # some sign in themselves
    again: Collection[int] = _AGAIN  # statuses that may pass by themselves
    _client: httpx2.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._allowed = {endpoint(url) for url in self.origins}
        for _, host, _ in self._allowed:
            self.site.reach(host)
        self._pace = Pace(self.per_second, self.sleep)
        trusted = trust(self.site)
        transport = httpx2.HTTPTransport(verify=trusted, trust_env=False)
        pinned = self.pool(
            ssl_context=trusted,
            max_connections=8,
            keepalive_expiry=30.0,
            network_backend=_Pinned(self.site.near),
        )
        transport._pool = pinned  # the transport has no argument for it
        self._client = httpx2.Client(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=self.timeout_s,
            headers={"accept-encoding": "identity", "user-agent": "Kura"},
            cookies=CookieJar(DefaultCookiePolicy(strict_ns_domain=_OWN_HOST)),
        )
        weakref.finalize(self, self._client.close)  # a connector is dropped, never closed

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        most_bytes: int = ANSWER_BYTES,
    ) -> Reply:
        """One answer, whole. Whatever is asked must be harmless if asked twice."""
        with self._answer(method, url, headers or {}, content) as answer:
            body = b"".join(bounded(answer, url, most_bytes))
            return Reply(answer.status_code, _lower(answer.headers), str(answer.url), body)

    def file(
        self,
        url: str,
        most_bytes: int,
        *,
        headers: Mapping[str, str] | None = None,
        size_bytes: int | None = None,
        written: datetime | None = None,
    ) -> BinaryIO:
        """A file, in a copy that has no name. Raises SourceUnreachable where it is gone.

        `size_bytes`: as it was listed, of a source that lists what it gives; raises SourceBusy
        where it gives more or less. `written`: as it was listed, of a source whose versions may be
        whole seconds. By the server's own clock that second is over before the file is read, so
        another write has another version.
        """
        reply, copy = self.fetch(url, most_bytes, headers=headers)
        for _ in range(_TICKS):
            if written is None or _date(reply.headers.get("date", "")) != written:
                break
            copy.close()
            self.sleep(1.0 - time.time() % 1.0)  # most clocks are set, and begin their second now
            reply, copy = self.fetch(url, most_bytes, headers=headers)
        if reply.status >= 300:
            copy.close()
            raise SourceUnreachable(f"{shown(url)} がありません ({reply.status})。")
        if size_bytes is not None and size_bytes != (came := os.fstat(copy.fileno()).st_size):
            copy.close()
            raise SourceBusy(
                f"{shown(url)} は {size_bytes:,} バイトのはずが {came:,} バイトでした。"
                "書き込み中か、途中で切れています。次の確認で読み直します。"
            )
        return copy

    def fetch(
        self,
        url: str,
        most_bytes: int,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        content: bytes | None = None,
    ) -> tuple[Reply, BinaryIO]:
        """What is said of a file, or that it did not change, and a copy of it that has no name."""
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
        try:
            with self._answer(method, url, headers or {}, content) as answer:
                for block in bounded(answer, url, most_bytes):
                    copy.write(block)
                reply = Reply(answer.status_code, _lower(answer.headers), str(answer.url))
            copy.seek(0)
        except BaseException as error:
            with suppress(OSError):  # what could not be written cannot be flushed either
                copy.close()
            if full := no_room(error, tempfile.gettempdir()):
                raise full from None
            raise
        return reply, copy

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Iterator[httpx2.Response]:
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                answer = self._followed(method, url, headers, content)
            except SourceUnreachable:
                if last:
                    raise
                self.sleep(_backoff(attempt))
                continue
            try:
                if answer.status_code not in self.again:
                    with _told(url):
                        (self.judge or judge)(answer, url)
                        yield answer
                    return
                wait_s = _asked_to_wait(answer)
            finally:
                answer.close()
            if last or (wait_s or 0) > LONGEST_WAIT_S:
                break
            self.sleep(_backoff(attempt) if wait_s is None else wait_s)
        status = answer.status_code
        raise SourceBusy(
            f"{shown(url)} が混み合っています ({status})。しばらくして、また確認します。",
            wait_s or 60.0,
        )

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> httpx2.Response:
        """The answer at the end of at most three redirects, each judged like the first address."""
        headers = {k.lower(): v for k, v in {**self.headers, **headers}.items()}
        auth, first = self.auth, endpoint(url)
        for _ in range(REDIRECTS + 1):
            if (at := endpoint(url)) not in self._allowed:
                raise Outside(f"{at[1]}:{at[2]}")
            if self.fence and not self.fence(url):
                raise Outside(shown(url))
            self._pace.wait()
            request = self._client.build_request(method, url, headers=headers, content=content)
            with _told(url):
                answer = self._client.send(request, auth=auth, stream=True)
            target = answer.headers.get("location", "")
            if not target or answer.status_code not in (301, 302, 303, 307, 308):
                return answer
            answer.close()
            url = _joined(url, re.sub(r"#[^@\\]*$", "", target))
            if (at := endpoint(url))[0] == "http" and first[0] == "https":
                raise SourceDenied(f"{at[1]} は暗号化しない接続へ移そうとするため、つなぎません。")
            if at != first:
                headers = {k: v for k, v in headers.items() if k not in _PRIVATE}
                auth = None
            if (answer.status_code == 303 and method != "HEAD") or method == "POST":
                # what was posted goes nowhere else
                method, content = "GET", None
                headers.pop("content-type", None)
        raise SourceMisconfigured(f"{shown(url)} は転送を繰り返します。URL を確かめてください。")


def shown(url: str) -> str:
    """A URL for a message: as people write it, without its query, which may hold a secret."""
    bare = re.sub(r"//[^/]*@", "//", url.split("?", 1)[0].split("#", 1)[0])
    return "".join(c for c in unquote(bare) if c.isprintable())[:200]


@dataclass(frozen=True)
class AtHome(httpx2.Auth):
    """A header for the hosts of some URLs, and for no other that may be asked."""

    name: str
    value: str = field(repr=False)
    homes: Collection[str]

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        if endpoint(str(request.url)) in map(endpoint, self.homes):
            request.headers[self.name] = self.value
        yield request


def basic(user: str, password: str) -> str:
    """The header of a name and a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


# --- what may be reached ----------------------------------------------------------


def endpoint(url: str) -> Endpoint:
    """One reading of a URL: what is odd is refused, for others may read it otherwise."""
    found = _URL.fullmatch(url)
    if not found or _ODD.search(url.split("?", 1)[0]) or "#" in url:
        raise SourceMisconfigured(f"{shown(ascii(url)[1:-1])} は URL として使えません。")
    scheme, host, port, _ = found.groups()
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number < 65536 or ".." in host or host.startswith((".", "-")):
        raise SourceMisconfigured(f"{shown(url)} は URL として使えません。")
    return scheme, host.lower().rstrip(".").strip("[]"), number


def _joined(base: str, target: str) -> str:
    try:
        return str(httpx2.URL(base).join(target))
    except (httpx2.InvalidURL, ValueError):
        raise SourceMisconfigured(f"{shown(base)} の転送先は URL として使えません。") from None


class _Pinned(httpcore2.NetworkBackend):
    """Connects to the address that was judged: there is no second look-up to be answered otherwise."""

    def __init__(self, near: Collection[str]) -> None:
        self._near = near
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = addresses(host, port, self._near)
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError(f"name {host}") from None
        for number, address in enumerate(found, 1):
            try:
                return self._plain.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(found):
                    raise
        raise httpcore2.ConnectError(f"name {host}")


# --- what comes back --------------------------------------------------------------


def judge(answer: httpx2.Response, url: str) -> None:
    """Raises what a refusal means."""
    match answer.status_code:
        case 401 | 407:
            raise SourceDenied(
                f"{shown(url)} にサインインできません。利用者名と合言葉を確かめてください。"
            )
        case 403:
            raise SourceDenied(f"{shown(url)} を読む権限が、この接続の利用者にありません。")
        case 404 | 410:
            return
        case 412:
            raise SourceBusy(f"{shown(url)} は書き込み中です。次の確認で読み直します。")
        case status if status >= 400:
            raise SourceMisconfigured(
                f"{shown(url)} は要求を断りました ({status})。設定を確かめてください。"
            )


def bounded(answer: httpx2.Response, url: str, most_bytes: int) -> Iterator[bytes]:
    """The body, not more of it than is wanted, however it was packed, as long as it goes on."""
    size, pulse = 0, Pulse()
    for block in answer.iter_bytes():  # as it comes: gathering blocks would wait for a slow one
        size += len(block)
        if size > most_bytes:
            raise TooLarge(f"{shown(url)} が大きすぎます (上限 {most_bytes // 1_000_000:,} MB)。")
        if not pulse.came(len(block)):
            raise SourceUnreachable(
                f"{shown(url)} の応答が終わりません。相手と、途中の回線を確かめてください。"
            )
        yield block
        pulse.wait()


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _asked_to_wait(answer: httpx2.Response) -> float | None:
    """Seconds by `Retry-After`, as a number or as a date."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return min(float(said[:9]), 86_400.0)
    if (until := _date(said)) is None:
        return None
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), 86_400.0)


def _date(said: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _backoff(attempt: int) -> float:
    """Full jitter: many clients do not come back together."""
    return random.uniform(0.0, min(LONGEST_WAIT_S, 0.5 * 2**attempt))  # noqa: S311


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of the network in our words; theirs may hold what was sent."""
    try:
        yield
    except ApplianceError:
        raise
    except httpx2.TimeoutException:
        raise SourceUnreachable(
            f"{shown(url)} が時間内に応えません。次の確認でやり直します。"
            "続くときは、相手の混み具合と稼働を確かめてください。"
        ) from None
    except httpx2.ConnectError as error:
        if isinstance(cause := _certificate(error), ssl.SSLError):
            raise SourceMisconfigured(f"{shown(url)}: {untrusted(cause)}。") from None
        raise SourceUnreachable(
            f"{shown(url)} につながりません。名前、ポート、相手の稼働を確かめてください。"
        ) from None
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL):
        raise SourceUnreachable(
            f"{shown(url)} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
            "続くときは、相手と、途中の機器を確かめてください。"
        ) from None


def _certificate(error: BaseException | None) -> BaseException | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


class Pace:
    """At most so many requests a second, over all threads."""

    def __init__(self, per_second: float, sleep: Callable[[float], None]) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)
