"""Kura starts, and is waited for until it answers: by systemd, or without it by `kura up`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from installer.deploy import units
from installer.deploy.site import ENOUGH_S, Site
from installer.steps import MARK, Refused, program

MISCONFIGURED = 78
TOLD_S, LONGEST_PAUSE_S = 30.0, 15.0


def started(site: Site) -> bool:
    """Runs with what is on the disk now, and answers."""
    return _running(site) and _current(site) and _looked(site).answers


def start(site: Site) -> None:
    """Anew where it runs with something older. Raises Refused with what it said where it does not come up."""
    if site.systemd:
        _by_systemd(site)
    else:
        by_itself(site)
    site.say("起動を待っています… / waiting until it answers…")
    began = told = time.monotonic()
    while not (state := _looked(site)).answers:
        now = time.monotonic()
        if not _running(site) or now - began > ENOUGH_S:
            raise Refused(f"Kura が起動しません ({state}) / does not start:\n{_last_words(site)}")
        if now - told >= TOLD_S:
            told = now
            site.say(f"  {now - began:.0f} s: {state}")
        # a look costs seconds of a core that the models are being loaded by
        time.sleep(min(max(1.0, 2 * state.took_s), LONGEST_PAUSE_S))
    _mark(site).write_text(_state(site), "utf-8")


def code(site: Site) -> str:
    """The code for the first administrator; "" once there is one."""
    said = site.kura("setup-code")
    return said.stdout.strip() if said.returncode == 0 else ""


def _by_systemd(site: Site) -> None:
    program(site, ["systemctl", "daemon-reload"])
    program(
        site, ["systemctl", "enable", units.TARGET, units.FIREWALL, units.RECOVER, *_services()]
    )
    program(site, ["systemctl", "restart", units.FIREWALL])
    program(site, ["systemctl", "reset-failed", "kura-*"])
    program(site, ["systemctl", "restart", *_services(), units.TARGET])


def by_itself(site: Site) -> None:
    stop(site)
    environment = site.environment()
    environment.pop(MARK, None)  # it is to outlive this run
    with (site.places.state / "up.log").open("ab") as log:
        child = subprocess.Popen(
            site.as_owner(site.running_release / "kura", "up", port=True),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    while not _holder(site.places.data) and child.poll() is None:
        time.sleep(0.1)


def stop(site: Site) -> None:
    """What `kura up` runs, in its order. Raises Refused where it does not end."""
    if not (pid := _holder(site.places.data)):
        return
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    finally:
        os.close(handle)
    end = time.monotonic() + 90
    while _holder(site.places.data):
        if time.monotonic() > end:
            raise Refused(
                f"動いている Kura（プロセス {pid}）が止まりません。 / The one that runs does not stop."
            )
        time.sleep(0.1)


def _services() -> list[str]:
    return [f"kura-{name}.service" for name in units.PROCESSES]


def _running(site: Site) -> bool:
    if not site.systemd:
        return bool(_holder(site.places.data))
    for name in _services():
        said = subprocess.run(
            ["systemctl", "show", "-p", "ActiveState,ExecMainStatus", name],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        if "ActiveState=failed" in said or "ActiveState=inactive" in said:
            return False
    return True


@dataclass(frozen=True)
class _Looked:
    web: str
    infer: str
    took_s: float

    @property
    def answers(self) -> bool:
        return self.web in ("ready", "degraded") and self.infer == "ready"

    def __str__(self) -> str:
        return f"web: {self.web}, infer: {self.infer}"


def _looked(site: Site) -> _Looked:
    """What `kura status` says; a machine with other work to do may be too slow for it as well."""
    began = time.monotonic()
    try:
        told = json.loads(site.kura("status", "--json").stdout)
        web, infer = str(told["web"]), str(told["infer"])
    except (ValueError, subprocess.TimeoutExpired):
        web = infer = "no answer yet"
    return _Looked(web, infer, time.monotonic() - began)


def _current(site: Site) -> bool:
    """Whether it was started after all that it reads was written."""
    mark = _mark(site)
    return mark.is_file() and mark.read_text("utf-8") == _state(site)


def _mark(site: Site) -> Path:
    return site.places.state / "started-with"


def _state(site: Site) -> str:
    total = hashlib.sha256(site.version.encode())
    at = site.places
    written = [at.units / name for name in sorted(units.texts(site.units))]
    read = [at.settings, at.tls / "cert.pem", at.firewall, *written]
    for path in read:
        total.update(path.read_bytes())
    return total.hexdigest()


def _holder(data: Path) -> int:
    """The process of `kura up`; 0 where none runs."""
    try:
        handle = os.open(data / "up.lock", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(handle, 20, 0).strip()
        return int(said) if said.isdigit() else 0
    else:
        return 0
    finally:
        os.close(handle)


def _last_words(site: Site) -> str:
    if site.systemd:
        argv = ["journalctl", "-n", "20", "--no-pager", "-o", "cat", "-u", "kura-*"]
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        return said.strip() or "journalctl -u 'kura-*'"
    path = site.places.state / "up.log"
    return path.read_text("utf-8", "replace")[-2000:].strip() if path.is_file() else ""
