"""The HTTP client of connectors, against servers on loopback that answer as badly as servers do."""

from __future__ import annotations

import email.utils
import gzip
import io
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from appliance.errors import (
    ApplianceError,
    NotReady,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from appliance.types import Site
from connectors import http, wire
from tests.fakes import certificates

CANARY = "himitsu-0451"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers by path; remembers what it was asked."""

    def __init__(self, name: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.given: list[tuple[str, bytes]] = []  # methods and bodies
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.given.append((self.command, body))
                outer.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                outer.answers[self.path.partition("?")[0]](self)

            do_GET = do_POST = do_PROPFIND = _any

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((name, 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{name}:{self.port}"
        self.near = f"{name}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def says(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def other() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


class Slept(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(*servers: Server, **more: object) -> http.Http:
    near = frozenset(s.near for s in servers)
    return http.Http([s.url for s in servers], Site(near=near), **more)  # type: ignore[arg-type]


def test_it_asks_and_reads_a_file(server: Server) -> None:
    server.answers = {
        "/規程".encode().decode("latin-1"): says(),
        "/a": says("規程".encode(), ETag='"1"'),
    }
    with client(server, headers={"Authorization": CANARY}) as web:
        reply = web.ask("PROPFIND", server.url + "/a", headers={"Depth": "1"})
        assert (reply.status, reply.body.decode(), reply.headers["etag"]) == (200, "規程", '"1"')
        with web.file(server.url + "/a", 100) as file:
            assert file.read().decode() == "規程"
    assert server.asked[0][1]["depth"] == "1" and server.asked[0][1]["authorization"] == CANARY
    assert "himitsu" not in repr(web)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_this_machine_is_not_reached_in_any_spelling(server: Server, host: str) -> None:
    url = f"http://{host}:{server.port}/a"
    with http.Http([url], Site()) as web, pytest.raises(SourceDenied, match="near_hosts"):
        web.ask("GET", url)
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "closed"),
    [
        ("169.254.169.254", True), ("fe80::1%eth0", True), ("::", True), ("64:ff9b::7f00:1", True), ("2002:7f00:1::", True), ("224.0.0.1", True),
        ("10.1.2.3", False), ("192.168.0.9", False), ("172.16.0.1", False), ("fd00::5", False),
        ("203.0.113.7", False),
    ],
)  # fmt: skip
def test_the_intranet_is_reached_and_links_are_not(address: str, closed: bool) -> None:
    assert wire.special(address) is closed


def test_a_name_that_means_this_machine_too_is_not_reached(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One good address and one bad, as a rebinding name server answers."""
    mixed = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, server.port))
        for a in ("10.0.0.1", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: mixed)
    url = f"http://intra.example:{server.port}/"
    with http.Http([url], Site()) as web, pytest.raises(SourceDenied):
        web.ask("GET", url)
    assert server.asked == []


def test_a_name_is_looked_up_once_and_its_address_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(host: str, port: int, *_: object, **__: object) -> object:
        looked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda h, p, *a, **k: look(h, p) if h == "intra.example" else real(h, p, *a, **k),
    )
    server.answers = {"/": says(b"ok")}
    url = f"http://intra.example:{server.port}/"
    with http.Http([url], Site(near=frozenset({f"intra.example:{server.port}"}))) as web:
        assert web.ask("GET", url).body == b"ok"
    assert looked == ["intra.example"]
    assert server.asked[0][1]["host"] == f"intra.example:{server.port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}\\@evil.example/", "http://user:pw@127.0.0.1:{port}/", "http://127.0.0.1:{port}/a b",
        "http://evil.example#@127.0.0.1:{port}/", "http://127.0.0.1:{port}\n/", "http://127.0.0.1:{port}\t/",
        "http://127。0。0。1:{port}/", "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "http:///a", "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/", "//127.0.0.1:{port}/", "", "http://127.0.0.1:{port}/%zz",
    ],
)  # fmt: skip
def test_odd_addresses_are_refused_not_interpreted(server: Server, url: str) -> None:
    with client(server) as web, pytest.raises(SourceMisconfigured, match="URL") as told:
        web.ask("GET", url.format(port=server.port))
    assert server.asked == []
    assert "pw" not in str(told.value)


def test_another_host_is_not_asked_even_if_it_may_be_reached(server: Server, other: Server) -> None:
    web = http.Http([server.url], Site(near=frozenset({server.near, other.near})))
    with web, pytest.raises(SourceDenied, match="接続先ではない"):
        web.ask("GET", other.url + "/a")
    assert other.asked == []


# --- redirects --------------------------------------------------------------------


def test_a_redirect_is_judged_like_the_first_address(server: Server, other: Server) -> None:
    server.answers = {"/a": says(status=302, Location=f"{other.url}/secret")}
    web = http.Http([server.url], Site(near=frozenset({server.near, other.near})))
    with web, pytest.raises(SourceDenied):
        web.ask("GET", server.url + "/a")
    assert other.asked == []


def test_what_was_meant_for_one_host_is_not_given_to_the_next(
    server: Server, other: Server
) -> None:
    server.answers = {
        "/a": says(status=307, Location=f"{other.url}/b"),
        "/c": says(status=301, Location="/d"),
        "/d": says(b"d"),
    }
    other.answers = {"/b": says(b"b")}
    with client(
        server, other, headers={"Authorization": CANARY, "Cookie": CANARY, "X-Plain": "1"}
    ) as web:
        assert web.ask("GET", server.url + "/a").body == b"b"
        assert web.ask("GET", server.url + "/c").body == b"d"
    sent = other.asked[0][1]
    assert "authorization" not in sent and "cookie" not in sent and sent["x-plain"] == "1"
    assert server.asked[-1][1]["authorization"] == CANARY
    with client(server, other, auth=httpx2.BasicAuth("ito", CANARY)) as web:
        web.ask("GET", server.url + "/a")
    assert "authorization" in server.asked[-1][1] and "authorization" not in other.asked[-1][1]


def test_redirects_end(server: Server) -> None:
    server.answers = {"/a": says(status=302, Location="/a")}
    with client(server) as web, pytest.raises(SourceMisconfigured, match="転送を繰り返し"):
        web.ask("GET", server.url + "/a")
    assert len(server.asked) == http.REDIRECTS + 1


def test_what_was_posted_goes_nowhere_else(server: Server, other: Server) -> None:
    """A redirect that keeps the method is told by a server that may want the password of another."""
    server.answers = {"/a": says(status=307, Location=f"{other.url}/b")}
    other.answers = {"/b": says(b"b")}
    with client(server, other) as web:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        form = f"password={CANARY}".encode()
        assert web.ask("POST", server.url + "/a", headers=headers, content=form).body == b"b"
    assert (server.given, other.given) == ([("POST", form)], [("GET", b"")])
    assert "content-type" not in other.asked[0][1]


def test_a_redirect_away_from_tls_is_not_followed(tmp_path: Path, other: Server) -> None:
    """Though the source may ask there as well."""
    own = certificates.certificate(tmp_path)
    safe = Server("localhost", own.context())
    safe.answers = {"/a": says(status=302, Location=f"{other.url}/b")}
    other.answers = {"/b": says(b"b")}
    site = Site(own.cert, frozenset({safe.near, other.near}))
    try:
        with http.Http([safe.url, other.url], site) as web:
            with pytest.raises(SourceDenied, match="暗号化しない"):
                web.ask("GET", safe.url + "/a")
            assert other.asked == []
            assert web.ask("GET", other.url + "/b").body == b"b"
    finally:
        safe.close()


# --- answers that are too much ----------------------------------------------------


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        handler.close_connection = True


def test_an_endless_body_and_a_bomb_are_cut_off(server: Server) -> None:
    server.answers = {
        "/endless": endless,
        "/bomb": says(gzip.compress(b"0" * 30_000_000), Content_Encoding="gzip"),
    }
    with client(server) as web:
        for path in ("/endless", "/bomb"):
            with pytest.raises(TooLarge, match="上限 1 MB"):
                web.ask("GET", server.url + path, most_bytes=1_000_000)
            with pytest.raises(TooLarge):
                web.file(server.url + path, 1_000_000)
        assert all(asked["accept-encoding"] == "identity" for _, asked in server.asked)


def test_a_drip_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(500):  # without end, but for a client that waits for it
                handler.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass
        handler.close_connection = True

    monkeypatch.setattr(wire.Pulse, "WINDOW_S", 0.3)
    server.answers = {"/": drip}
    with client(server) as web, pytest.raises(SourceUnreachable, match="終わりません"):
        web.ask("GET", server.url + "/")


def test_a_file_on_a_slow_line_takes_its_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "80000")
        handler.end_headers()
        for _ in range(8):
            handler.wfile.write(b"x" * 10_000)
            time.sleep(0.1)

    monkeypatch.setattr(wire.Pulse, "WINDOW_S", 0.2)
    monkeypatch.setattr(wire.Pulse, "LEAST_BYTES", 200)
    server.answers = {"/": slow}
    with client(server) as web, web.file(server.url + "/", 100_000) as copy:
        assert len(copy.read()) == 80_000


def test_headers_without_end_and_broken_lengths_are_told(server: Server) -> None:
    def heads(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000)
        handler.close_connection = True

    def short(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        handler.close_connection = True

    server.answers = {"/heads": heads, "/short": short}
    with client(server, sleep=Slept()) as web:
        for path in ("/heads", "/short"):
            with pytest.raises(SourceUnreachable, match="正しくありません"):
                web.ask("GET", server.url + path)


def test_a_disk_without_room_for_the_copy_is_told_as_ours(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = {"/a": says(b"12345" * 10_000)}
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda: io.BufferedRandom(io.FileIO("/dev/full", "r+"))
    )
    with client(server) as web, pytest.raises(NotReady, match=r"空きがなく.*ディスクを足して"):
        web.file(f"{server.url}/a", 1_000_000)


def test_a_file_of_another_size_than_was_listed_is_read_again_later(server: Server) -> None:
    server.answers = {"/a": says(b"12345")}
    with client(server) as web:
        for size_bytes in (4, 6):
            with pytest.raises(SourceBusy, match="次の確認で読み直します"):
                web.file(f"{server.url}/a", 100, size_bytes=size_bytes)
        with web.file(f"{server.url}/a", 100, size_bytes=5) as copy:
            assert copy.read() == b"12345"


# --- again, but not at once -------------------------------------------------------


def test_a_busy_source_is_asked_again_when_it_says(server: Server) -> None:
    times = iter([says(status=429, Retry_After="7"), says(status=503), says(b"ok")])
    server.answers = {"/": lambda handler: next(times)(handler)}
    slept = Slept()
    with client(server, sleep=slept) as web:
        assert web.ask("GET", server.url + "/").body == b"ok"
    assert slept[0] == 7.0 and 0 <= slept[1] <= 1.0


def test_who_wants_long_is_left_for_the_next_run(server: Server) -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.answers = {"/": says(status=503, Retry_After=date), "/b": says(status=500)}
    slept = Slept()
    with client(server, sleep=slept) as web:
        with pytest.raises(SourceBusy) as told:
            web.ask("GET", server.url + "/")
        assert 3500 < told.value.retry_after_s <= 3600 and slept == []
        with pytest.raises(SourceBusy):
            web.ask("GET", server.url + "/b")
    assert len(server.asked) == 1 + http.ATTEMPTS and len(slept) == http.ATTEMPTS - 1


def test_a_source_sets_the_pace(server: Server) -> None:
    server.answers = {"/": says(b"ok")}
    slept = Slept()
    with client(server, per_second=2.0, sleep=slept) as web:
        for _ in range(4):
            web.ask("GET", server.url + "/")
    assert len(slept) == 3 and slept[-1] > 1.0


# --- what went wrong, in words ----------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, SourceDenied, "サインイン"),
        (403, SourceDenied, "権限"),
        (400, SourceMisconfigured, "400"),
    ],
)
def test_refusals_say_what_to_do(
    server: Server, status: int, error: type[ApplianceError], words: str
) -> None:
    server.answers = {"/": says(CANARY.encode(), status)}
    with (
        client(server, headers={"Authorization": CANARY}) as web,
        pytest.raises(error, match=words) as told,
    ):
        web.ask("GET", f"{server.url}/?token={CANARY}")
    assert CANARY not in str(told.value)


def test_what_is_gone_is_a_reply(server: Server) -> None:
    server.answers = {"/": says(status=404)}
    with client(server) as web:
        assert web.ask("GET", server.url + "/").status == 404
        with pytest.raises(SourceUnreachable, match="ありません"):
            web.file(server.url + "/", 10)


def test_nobody_there_is_told_without_the_query() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        web = http.Http([url], Site(near=frozenset({url[7:]})), sleep=Slept())
        with web, pytest.raises(SourceUnreachable, match="つながりません") as told:
            web.ask("GET", f"{url}/?password={CANARY}")
    assert CANARY not in str(told.value)
    assert told.value.__cause__ is None and told.value.__suppress_context__


def certificate(folder: Path, name: str, days: str = "2", signer: Path | None = None) -> Path:
    """A key and a certificate for `name` in one file, made by the openssl of this machine."""
    key, path = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(path),
        "-subj",
        f"/CN={name}",
        "-days",
        days,
    ]
    command += ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path


@pytest.mark.parametrize(
    ("name", "days", "trusted", "words"),
    [
        ("localhost", 2, True, ""),
        ("localhost", 2, False, "自己署名"),
        ("localhost", -1, True, "期限が切れて"),
        ("other.example", 2, True, "名前"),
    ],
)
def test_certificates(tmp_path: Path, name: str, days: int, trusted: bool, words: str) -> None:
    own = certificates.certificate(tmp_path, name, days)
    server = Server("localhost", own.context())
    server.answers = {"/": says(b"ok")}
    site = Site(own.cert if trusted else None, frozenset({server.near}))
    try:
        with http.Http([server.url], site, sleep=Slept()) as web:
            if not words:
                assert web.ask("GET", server.url + "/").body == b"ok"
            else:
                with pytest.raises(SourceMisconfigured, match=words):
                    web.ask("GET", server.url + "/")
    finally:
        server.close()


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    assert wire.trust(Site()).minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMisconfigured, match="ca_file"):
        http.Http(["https://intra.example"], Site(tmp_path / "none.pem"))
