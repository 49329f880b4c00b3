"""The guard, in processes of its own: an audit hook cannot be taken out again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.sovereignty import egress

ROOT = Path(__file__).parents[2]
GUARDED = """
import socket, sys, urllib.request
from appliance.settings import Settings
from appliance.sovereignty import egress
egress.guard(Settings(database_url={database!r}, generator_url={generator!r}), listens={listens})
def refused(what):
    try:
        what()
    except egress.EgressBlocked:
        print("refused")
    except OSError as error:
        print("reached", type(error).__name__)
    else:
        print("reached")
"""


def said(code: str, *, database: str = "", generator: str = "", listens: bool = False) -> list[str]:
    head = GUARDED.format(database=database, generator=generator, listens=listens)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / ".kura").mkdir()  # where the settings look for it
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", head + code],
            capture_output=True,
            text=True,
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_leaves() -> None:
    code = """
def tcp(address, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.settimeout(0.2)
        s.connect(address)
def udp(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", address)
def message(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendmsg([b"x"], [], 0, address)
for what in (
    lambda: tcp(("192.0.2.1", 443)),
    lambda: tcp(("0x7f.1.1.1.evil", 443)),
    lambda: udp(("example.com", 53)),
    lambda: tcp(("169.254.169.254", 80)),
    lambda: tcp(("::ffff:192.0.2.1", 443), socket.AF_INET6),
    lambda: tcp(("2001:db8::1", 443), socket.AF_INET6),
    lambda: udp(("192.0.2.53", 53)),
    lambda: message(("192.0.2.53", 53)),
    lambda: socket.getaddrinfo("example.com", 443),
    lambda: socket.gethostbyname("example.com"),
    lambda: socket.gethostbyaddr("192.0.2.1"),
    lambda: socket.create_connection(("example.com", 443), 0.2),
    lambda: urllib.request.urlopen("http://example.com", timeout=0.2),
    lambda: socket.socket().bind(("0.0.0.0", 0)),
):
    refused(what)
print(egress.blocked())
"""
    *answers, count = said(code)
    assert answers[:-2] + answers[-1:] == ["refused"] * (len(answers) - 1)
    assert answers[-2] == "reached URLError"  # urllib wraps what it is refused in its own error
    assert int(count) == len(answers)


def test_this_machine_is_reached() -> None:
    code = """
import os, tempfile
with socket.socket() as server, socket.socket() as client:
    server.bind(("127.0.0.1", 0)); server.listen()
    refused(lambda: client.connect(server.getsockname()))
refused(lambda: socket.getaddrinfo("localhost", 80))
refused(lambda: socket.getaddrinfo("127.0.0.1", 80))
refused(lambda: socket.socketpair())
path = tempfile.mktemp()
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind(path); server.listen()
    refused(lambda: client.connect(path))
os.unlink(path)
print(egress.blocked())
"""
    assert said(code) == ["reached"] * 5 + ["0"]


def test_only_what_the_settings_name_is_reached_beyond_it() -> None:
    code = """
def tcp(host):
    with socket.socket() as s:
        s.settimeout(0.05)
        s.connect((host, 5432))
for host in ("192.0.2.10", "192.0.2.20", "192.0.2.30"):
    refused(lambda: tcp(host))
"""
    answers = said(
        code,
        database="postgresql+psycopg://kura:pass@192.0.2.10:5432/kura",
        generator="http://192.0.2.20:8000",
    )
    assert [a.split()[0] for a in answers] == ["reached", "reached", "refused"]


def test_what_a_source_lies_on_is_reached_from_then_on() -> None:
    code = """
import socket
from appliance import build
from appliance.errors import SourceUnreachable
from connectors import wire
from connectors.webdav import WebDavConnector, WebDavSettings
def tcp(host):
    with socket.socket() as s:
        s.settimeout(0.2)
        s.connect((host, 81))
site = build.site(Settings())
refused(lambda: tcp("192.0.2.7"))
connector = WebDavConnector(WebDavSettings(url="http://192.0.2.7:81/dav/"), site)
connector._http
refused(lambda: tcp("192.0.2.7"))
refused(lambda: tcp("192.0.2.8"))
try:
    wire.dial("192.0.2.8", 22, site, 0.2)
except SourceUnreachable:
    pass
refused(lambda: tcp("192.0.2.8"))
"""
    answers = [answer.split()[0] for answer in said(code)]
    assert answers == ["refused", "reached", "refused", "reached"]


def test_a_file_server_is_reached_once_it_is_a_source_and_never_answered_with_ntlmv1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", "0")
    code = """
import os, socket as s
from appliance import build
from connectors.smb import SmbConnector, SmbSettings
def tcp():
    with socket.socket() as s:
        s.settimeout(0.2)
        s.connect(("192.0.2.8", 445))
refused(tcp)
own = SmbSettings(server="192.0.2.8", share="x", user="ito", password="x")
server = SmbConnector(own, build.site(Settings()))._server
server.timeout_s = 0.2
try:
    server.entries("")
except Exception as error:
    print(type(error).__name__)
refused(tcp)
from spnego import client
context = client("ito", "x", protocol="ntlm")
print(context._nt_v2, context._nt_v1, context._lm)
"""
    first, asked, second, versions = said(code)
    assert first == "refused" and second.startswith("reached")
    assert asked == "SourceUnreachable" and versions == "True False False"


def test_only_the_web_listens_and_only_where_it_should() -> None:
    code = 'refused(lambda: socket.socket().bind(("0.0.0.0", 0)))'
    assert said(code, listens=True) == ["refused"]  # web_host is loopback
    assert said('refused(lambda: socket.socket().bind(("127.0.0.1", 0)))') == ["reached"]


def test_libraries_are_told_to_stay_at_home() -> None:
    before = {
        "LANGCHAIN_TRACING_V2": "true",
        "LANGSMITH_API_KEY": "x",
        "HF_ENDPOINT": "http://x",
        "A": "b",
    }
    env = egress.environment(before)
    assert env["LANGCHAIN_TRACING_V2"] == "false" and env["HF_HUB_OFFLINE"] == "1"
    assert env["TOKENIZERS_PARALLELISM"] == "false" and env["DO_NOT_TRACK"] == "1"
    assert "LANGSMITH_API_KEY" not in env and "HF_ENDPOINT" not in env and env["A"] == "b"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("sqlite:////var/lib/kura/kura.db", set()),
        ("postgresql+psycopg://kura@/kura?host=/run/postgresql", set()),
        ("postgresql+psycopg://kura:p@DB.example.co.jp:5432/kura", {"db.example.co.jp"}),
        ("postgresql+psycopg://[2001:db8::5]/kura", {"2001:db8::5"}),
    ],
)
def test_the_hosts_that_settings_name(url: str, hosts: set[str]) -> None:
    assert egress.allowed_hosts(Settings(database_url=url)) == hosts


def test_a_loader_of_langchain_reaches_the_hosts_of_its_source_and_no_other() -> None:
    code = """
from appliance.types import Site
from connectors.langchain import LangchainConnector, LangchainSettings
from appliance.errors import SourceUnreachable
def look(hosts):
    own = {"loader": "tests.connectors.loaders:Caller", "hosts": hosts, "allow": ["everyone"],
           "arguments": '{"address": "192.0.2.1", "timeout_s": 0.05}'}
    site = Site(loaders=frozenset({own["loader"]}), reach=egress.reach)
    try:
        list(LangchainConnector(LangchainSettings.model_validate(own), site).changes(None))
    except SourceUnreachable as error:
        print("EgressBlocked" in str(error))
look([])
look(["192.0.2.1"])
"""
    assert said(code) == ["True", "False"]
