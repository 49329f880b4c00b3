"""What a sentence tells an administrator to type, on a host of systemd and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import host
from installer.deploy import units
from installer.places import Places


def test_commands_are_those_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "TARGET", tmp_path / "kura.target")
    assert host.start() == "kura up" and host.log_of("web") == "kura.log の web の行"
    host.TARGET.touch()
    assert host.start() == "sudo systemctl start kura.target"
    assert "journalctl -u kura-web" in host.log_of("web")


def test_it_is_where_the_installer_puts_it() -> None:
    assert Places().units / units.TARGET == host.TARGET
