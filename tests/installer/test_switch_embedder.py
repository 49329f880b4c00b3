"""A release with another embedder, on tiny releases: what is said, what is refused, what comes back.

What is searched meanwhile is in test_upgrade_embedder.py, with the real appliance.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from tests.installer import test_switch
from tests.installer import tiny_release as tiny
from tests.installer.hosts import Host
from tests.installer.test_switch import OLD, settled, until

NEW = "1.1.0"  # its database is of the same form
KEEP = 'embedder = "e"'  # the line that takes the release without its embedder


@pytest.fixture
def host() -> Iterator[Host]:
    for made in test_switch.host.__wrapped__():  # type: ignore[attr-defined]
        tiny.make(made.places.release(OLD), OLD, 11, "embedder=e", "knows=e")
        (made.data / "searched-by").write_text("e")
        test_switch.HEADS[NEW] = "0011"
        yield made


def release(host: Host, *behaviour: str) -> None:
    tiny.make(host.places.release(NEW), NEW, 11, *behaviour)


def test_a_new_embedder_is_said_before_it_comes(host: Host) -> None:
    release(host, "embedder=f", "knows=f,e")
    host.installer("upgrade", NEW)
    assert "e から f に変わります" in host.said and host.version == NEW


def test_one_that_drops_the_embedder_there_is_says_so(host: Host) -> None:
    release(host, "embedder=f", "knows=f", "small")  # nothing is loaded beside
    host.installer("upgrade", NEW)
    assert "言葉だけで探されます" in host.said and host.version == NEW


@pytest.mark.parametrize(
    ("behaviour", "said", "way"),
    [
        (("embedder=f", "knows=e"), "f のファイルがありません", False),
        (("embedder=f", "knows=f,e", f"dim={10**12}"), "空きが要ります", True),
        (("embedder=f", "knows=f,e", "small"), "試すメモリがありません", True),
        (("embedder=f", "knows=f,e", "no-models"), "weights is missing", False),
    ],
)
def test_one_that_cannot_be_taken_is_refused_while_the_old_one_serves(
    host: Host, behaviour: tuple[str, ...], said: str, way: bool
) -> None:
    digest = host.digest()
    release(host, *behaviour)
    host.installer("upgrade", NEW, status=1)
    assert said in host.said and "Traceback" not in host.said
    assert (KEEP in host.said) == way
    assert host.version == OLD and host.serves() == OLD
    settled(host, digest)


def test_the_way_back_keeps_what_was_written_unless_the_vectors_of_then_are_wanted(
    host: Host,
) -> None:
    release(host, "embedder=f", "knows=f,e")
    host.installer("upgrade", NEW)
    write(host, "移る前")
    host.installer("rollback")
    assert "すべて残ります" in host.said and "言葉" not in host.said, "the old one still searched"
    assert host.version == OLD and texts(host) == ["旅費規程", "移る前"]
    host.installer("upgrade", NEW)
    (host.data / "searched-by").write_text("f")  # all was embedded anew
    write(host, "移った後")
    host.installer("rollback", status=1)
    assert "--snapshot" in host.said and "--yes" in host.said, "it is asked first"
    assert host.version == NEW and host.serves() == NEW
    host.installer("rollback", "--snapshot", "--yes")
    assert "+1" in host.said and texts(host) == ["旅費規程", "移る前"]
    assert (host.data / "searched-by").read_text() == "e"
    host.installer("upgrade", NEW)
    (host.data / "searched-by").write_text("f")
    write(host, "移った後")
    host.installer("rollback", "--yes")
    assert "言葉だけで探されます" in host.said
    assert host.version == OLD and texts(host) == ["旅費規程", "移る前", "移った後"]
    until(lambda: host.serves() == OLD)


def test_a_setting_that_the_earlier_release_does_not_know_is_refused(host: Host) -> None:
    release(host, "embedder=f", "knows=f,e")
    host.installer("upgrade", NEW)
    tiny.make(host.places.release(OLD), OLD, 11, "embedder=f", "knows=e")  # kura.toml says so
    host.installer("rollback", "--yes", status=1)
    assert "設定の embedder が f" in host.said and host.serves() == NEW


def write(host: Host, text: str) -> None:
    with sqlite3.connect(host.data / "kura.db") as db:
        db.execute("INSERT INTO document (text) VALUES (?)", (text,))
    db.close()


def texts(host: Host) -> list[str]:
    with sqlite3.connect(host.data / "kura.db") as db:
        found = db.execute("SELECT text FROM document ORDER BY id").fetchall()
    db.close()
    return [text for (text,) in found]
