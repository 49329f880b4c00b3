"""Taking Kura away: the program goes, what people made stays until somebody types its name."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from installer.deploy import units
from installer.upgrade import uninstall
from tests.installer import tiny_release as tiny
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host


@pytest.fixture
def host() -> Iterator[Host]:
    with a_host() as made:
        tiny.make(made.places.release("1.0.0"), "1.0.0", 11)
        made.begin("1.0.0")
        tiny.site(made.data, 11)
        for folder in (made.places.units, made.places.commands, made.root / "etc/logrotate.d"):
            folder.mkdir(parents=True)
        units.write_into(made.places.units, units.Site(made.places))
        (made.places.units / "kura-web.service.d").mkdir()
        (made.places.units / "sshd.service").write_text("not ours")
        (made.places.commands / "kura").write_text("")
        (made.places.commands / "kura-installer").write_text("")
        (made.root / "etc/logrotate.d/kura").write_text("")
        made.places.firewall.write_text("")
        made.start()
        deadline = time.monotonic() + 15
        while made.serves() != "1.0.0":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield made


def program_is_gone(host: Host) -> None:
    at = host.places
    assert host.serves() == "" and not at.opt.exists()
    assert [p.name for p in at.units.iterdir()] == ["sshd.service"]
    assert not any(at.commands.iterdir()) and not at.firewall.exists()
    assert not any((host.root / "etc/logrotate.d").iterdir())


def test_the_data_stays_and_is_taken_up_again(host: Host) -> None:
    digest = host.digest()
    host.installer("uninstall", "--dry-run")
    assert host.serves() == "1.0.0"
    host.installer("uninstall")
    program_is_gone(host)
    assert host.digest() == digest and (host.data / "secrets.key").read_text() == "鍵"
    assert str(host.data) in host.said and "--purge" in host.said
    assert host.places.settings.exists()
    host.installer("uninstall", status=1)
    assert "導入されていません" in host.said
    tiny.make(host.places.release("1.0.0"), "1.0.0", 11)
    uninstall.files.sync(host.places.releases)
    host.places.current.symlink_to("releases/1.0.0")
    host.start()


@pytest.mark.parametrize("typed", [(), ("--confirm", "/var/lib/other"), ("--confirm", "yes")])
def test_without_the_name_nothing_is_purged(host: Host, typed: tuple[str, ...]) -> None:
    host.installer("uninstall", "--purge", *typed, status=1)
    assert "Traceback" not in host.said
    assert host.serves() == "1.0.0" and (host.data / "kura.db").exists()


def test_with_its_name_all_goes(host: Host) -> None:
    host.installer("uninstall", "--purge", "--confirm", str(host.data))
    program_is_gone(host)
    assert not host.data.exists() and not host.places.etc.exists()
    assert not host.places.state.exists()


def test_what_was_kept_can_be_purged_later(host: Host) -> None:
    host.installer("uninstall")
    host.installer("uninstall", "--purge", "--confirm", str(host.data))
    assert not host.data.exists()


@pytest.mark.parametrize("purge", [False, True])
def test_one_that_was_killed_goes_on(host: Host, purge: bool) -> None:
    words = ("uninstall", *(("--purge", "--confirm", str(host.data)) if purge else ()))
    ended = []
    for nth in range(1, 8):
        if not host.places.opt.exists() and not (purge and host.data.exists()):
            break
        dies = (shutil, "rmtree", nth, nth % 2 == 0)
        ended.append(host.installer(*words, dies=dies, status=None))
    assert -signal.SIGKILL in ended
    program_is_gone(host)
    assert host.data.exists() != purge
