"""The loop of `kura work`: looks at one due source after another, until told to stop."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial

from appliance.backup import schedule as backups
from appliance.errors import ApplianceError
from appliance.formats.kinds import EDITION
from appliance.formats.sandbox import Sandbox
from appliance.ingest import again, directory, kept, pages, schedule
from appliance.ingest.anew import AGAIN_S, Anew
from appliance.ingest.desk import Desk
from appliance.ingest.pages import Room
from appliance.ingest.running import Parse
from appliance.ingest.trial import Trial
from appliance.ingest.vectors import Stopped
from appliance.ocr.reader import ConfinedReader
from appliance.operate import alerts
from appliance.operate.rules import Look
from appliance.store import about, catalog, editions
from appliance.system import Workshop, desk

log = logging.getLogger(__name__)

POLL_S = 0.5
TIDY_S = 3600.0
BACKUP_POLL_S = 20.0
DIRECTORY_POLL_S = 2.0
AWAY_S = 5.0  # wait when the database does not answer
CUT_S = 20  # a person is waiting
LANES = (None, "uploads")  # a large folder must not keep somebody's upload waiting


def run(workshop: Workshop, stop: threading.Event) -> None:
    """Work until `stop` is set, then finish the file at hand and release every lease.

    Raises SettingsError where this machine cannot confine a parser.
    """
    for looked_at in editions.fill(workshop.engine):
        log.info("%d documents of an older release: looked for their versions", looked_at)
    if again := catalog.retry_with(workshop.engine, EDITION):
        log.info("%d documents could not be read: this release tries again", again)
    with Sandbox(workshop.settings) as sandbox, ConfinedReader(workshop.settings) as reader:
        lanes = [
            threading.Thread(
                target=_lane,
                args=(workshop, sandbox.parse, stop, kind),
                name=f"lane-{kind or 'all'}",
            )
            for kind in LANES
        ]
        lanes.append(threading.Thread(target=_look_back, args=(workshop, stop), name="look-back"))
        connect = partial(schedule.connector, workshop.connectors, site=workshop.site)
        giving = Desk(
            workshop.engine,
            connect,
            sandbox.picture,
            partial(sandbox.cut, seconds=CUT_S),
            desk(workshop.settings),
            workshop.settings.file_bytes,
            Trial(workshop.connectors, workshop.site),
        )
        lanes += [
            threading.Thread(target=_again, args=(workshop, sandbox.parse, stop), name="again"),
            threading.Thread(target=giving.run, args=(stop,), name="desk"),
            threading.Thread(target=_embed_anew, args=(workshop, stop), name="anew"),
        ]
        lanes.append(threading.Thread(target=_alert, args=(workshop, stop), name="alerts"))
        lanes.append(
            threading.Thread(target=_directories, args=(workshop, stop), name="directories")
        )
        if backups.is_on(workshop.settings):
            lanes.append(threading.Thread(target=_back_up, args=(workshop, stop), name="backups"))
        if workshop.settings.ocr:
            room = Room(
                workshop.engine, reader, sandbox.parse, workshop.embedder, workshop.settings
            )
            lanes += [
                threading.Thread(target=_reading, args=(room, stop), name=f"pages-{n}")
                for n in range(max(1, workshop.settings.ocr_threads))
            ]
        for lane in lanes:
            lane.start()
        stop.wait()
        reader.close()  # a page at hand is read again by the next worker
        for lane in lanes:
            lane.join()


def _reading(room: Room, stop: threading.Event) -> None:
    while not stop.is_set():
        if schedule.closed(room.engine) or not read_pages(room, stop):
            stop.wait(POLL_S)


def read_pages(room: Room, stop: threading.Event) -> bool:
    """Read pages of one document. False if none waits, or the machine is to blame."""
    try:
        return pages.turn(room, owner(), stop)
    except ApplianceError as error:
        log.warning("pages are not read: %s", error)
    except Exception:
        log.exception("the reading of pages goes on after an error of its own")
    stop.wait(AWAY_S)
    return False


def _lane(workshop: Workshop, parse: Parse, stop: threading.Event, kind: str | None) -> None:
    tidied = time.monotonic()
    while not stop.is_set():
        if not schedule.closed(workshop.engine) and once(workshop, parse, stop, kind):
            continue
        if kind is None and time.monotonic() - tidied > TIDY_S:
            tidied = time.monotonic()
            _tidy(workshop)
        stop.wait(POLL_S)


def _look_back(workshop: Workshop, stop: threading.Event) -> None:
    """What documents of an older release say of themselves, and hold: beside the day's work."""
    try:
        for looked_at in about.fill(workshop.engine):
            log.info("%d documents of an older release: looked at what they hold", looked_at)
            if stop.is_set():
                return
    except ApplianceError as error:
        log.warning("older documents are looked at when this starts again: %s", error)


def _again(workshop: Workshop, parse: Parse, stop: threading.Event) -> None:
    """What a person wants read again does not wait for a source's turn."""
    connect = partial(schedule.connector, workshop.connectors, site=workshop.site)
    made = (workshop.engine, connect, workshop.embedder, parse, workshop.settings, stop)
    while not stop.is_set():
        try:
            if not schedule.closed(workshop.engine) and again.look(*made):
                continue
        except ApplianceError as error:
            log.warning("%s", error)
            stop.wait(AWAY_S)
        stop.wait(POLL_S)


def _embed_anew(workshop: Workshop, stop: threading.Event) -> None:
    """After a change of the embedder: beside the day's work."""
    anew = Anew(workshop.engine, workshop.embedder, workshop.named, stop)
    while not stop.is_set():
        try:
            if not schedule.closed(workshop.engine) and anew.turn():
                continue
        except Stopped:
            return
        except ApplianceError as error:
            log.warning("documents are not embedded anew: %s", error)
        except Exception:
            log.exception("embedding anew goes on after an error of its own")
        stop.wait(AGAIN_S)


def _alert(workshop: Workshop, stop: threading.Event) -> None:
    alerts.run(Look(workshop.engine, workshop.settings), workshop.site, owner(), stop)


def _directories(workshop: Workshop, stop: threading.Event) -> None:
    """Who is in which group does not wait until documents have been read."""
    while not stop.is_set():
        try:
            if directory.look(workshop.engine, owner(), workshop.settings, workshop.site, stop):
                continue
        except ApplianceError as error:
            log.warning("%s", error)
            stop.wait(AWAY_S)
        except Exception:
            log.exception("directories are looked at again after an error of its own")
            stop.wait(AWAY_S)
        stop.wait(DIRECTORY_POLL_S)


def _back_up(workshop: Workshop, stop: threading.Event) -> None:
    """Make each backup at its time, in a process of its own, which keeps nobody waiting here."""
    argv = [sys.executable, "-m", "appliance.cli", "backup", "create", "--scheduled"]
    while not stop.is_set():
        try:
            if not schedule.closed(workshop.engine) and backups.due(
                workshop.engine, workshop.settings, datetime.now(UTC)
            ):
                _until_done([*argv, str(os.getpid())], stop)
        except (ApplianceError, OSError) as error:
            log.warning("no backup is made: %s", error)
        stop.wait(BACKUP_POLL_S)


def _until_done(argv: list[str], stop: threading.Event) -> None:
    """One that is stopped has left no backup; the next start makes it."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            if stop.wait(POLL_S):
                process.kill()
        assert process.stderr is not None
        if process.returncode:
            said = process.stderr.read().strip().splitlines()
            log.warning("no backup was made: %s", said[-1] if said else process.returncode)
        else:
            log.info("a backup was made")


def _tidy(workshop: Workshop) -> None:
    try:
        catalog.trim_log(workshop.engine)
        kept.tidy(workshop.engine, workshop.settings)
    except ApplianceError as error:
        log.warning("the change log could not be trimmed: %s", error)


def once(workshop: Workshop, parse: Parse, stop: threading.Event, kind: str | None = None) -> bool:
    """Look at one due source. False if there was none, or the database is away."""
    try:
        return schedule.look(
            workshop.engine,
            owner(),
            partial(schedule.connector, workshop.connectors, site=workshop.site),
            workshop.embedder,
            parse,
            workshop.settings,
            stop,
            kind,
        )
    except ApplianceError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("the worker goes on after an error of its own")
    stop.wait(AWAY_S)
    return False


def owner() -> str:
    """Names one lease: never the same twice."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
