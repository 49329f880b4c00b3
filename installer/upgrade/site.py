"""The Kura of this host, as its installer sees it: where it lies, what each release says, starting, stopping."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from installer import steps
from installer.deploy import answers, services, units
from installer.deploy import site as deploy
from installer.deploy.answers import Answers
from installer.deploy.settings import read
from installer.places import Places
from installer.steps import Context, Refused
from installer.upgrade import files
from installer.upgrade.waiting import Waiting

T = TypeVar("T")
PROCESSES = ("up", "web", "work", "infer", "migrate")
UNITS = ("kura-work", "kura-web", "kura-infer")  # in the order in which they stop
STOP_S = 60.0


@dataclass(frozen=True)
class Facts:
    """What a release says of itself, of the settings, and of the database as it is (`kura release facts`)."""

    version: str
    revisions: tuple[str, ...]  # that it knows, the newest first
    embedder: str
    data: Path
    database: Path | None  # None: PostgreSQL
    revision: str | None
    rows: Mapping[str, int]
    infer_socket: Path
    secrets_key: Path
    log: Path
    schema: str = ""  # of PostgreSQL that the tables lie in; "" where the release does not say
    lacks: tuple[str, ...] = ()  # what the role must be given there
    foreign: tuple[str, ...] = ()  # what else lies there
    size: int = 0  # of all of it, in bytes
    embedders: tuple[str, ...] = ()  # that it can load: their files are there
    dim: int = 0  # of the vectors of its own
    searched_by: str = ""  # the embedder whose vectors are searched; "" where there are none

    @property
    def head(self) -> str:
        return self.revisions[0]


@dataclass
class Site:
    context: Context
    systemd: bool
    waiting: dict[tuple[str, ...], Waiting] = field(default_factory=dict)

    @property
    def places(self) -> Places:
        return self.context.places

    # --- releases -------------------------------------------------------------------

    def installed(self) -> str:
        """Raises Refused where nothing is."""
        if not (version := self.places.installed()):
            raise Refused(
                "Kura が導入されていません。`kura-installer install` から始めてください。"
                " / Kura is not installed here."
            )
        return version

    def lies_here(self, version: str) -> bool:
        """Whole: the file that says so is written last."""
        folder = self.places.release(version)
        return (folder / "release.json").is_file() and self.program(version).exists()

    def program(self, version: str) -> Path:
        return self.places.release(version) / "venv" / "bin" / "kura"

    @cached_property
    def settings(self) -> dict[str, str]:
        """KURA_* of this host, as systemd reads them."""
        found = read(self.places.settings) if self.places.settings.is_file() else {}
        found.setdefault("KURA_DATA", str(self.places.data))
        return found

    @property
    def data(self) -> Path:
        return Path(self.settings["KURA_DATA"])

    @property
    def log(self) -> str:
        return Path(self.settings.get("KURA_LOG", "kura.log")).name

    @property
    def upgrade(self) -> Path:
        return self.data / files.OURS

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """Of Kura's processes: nothing of the shell this was started from."""
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "TZ", "LC_ALL"}}
        return kept | {"LANG": kept.get("LANG", "C.UTF-8")} | self.settings | dict(more)

    def ask(self, version: str, *words: str | Path, more: Mapping[str, str] = {}) -> Any:
        """`kura release …` of that release, as Kura's user. Raises Refused with what it said."""
        environ = self.environment(more)
        waiting = self.waiting.pop(_key(version, words), None)
        try:
            if waiting:
                said = waiting.go()
            else:
                argv = self._release(version, *words)
                said = steps.program(self.context, argv, env=environ, bare=True)
        except Refused as error:
            raise self._failed(version, str(words[0]), error) from None
        return json.loads(said.strip().splitlines()[-1])

    def prepare(self, version: str, *words: str | Path, more: Mapping[str, str] = {}) -> None:
        """What will be asked while Kura is stopped, in the same words: started now, done then."""
        argv = self._release(version, *words, "--wait")
        self.dismiss(_key(version, words))
        try:
            ready = Waiting(self.context, argv, self.environment(more))
        except Refused as error:
            raise self._failed(version, str(words[0]), error) from None
        self.waiting[_key(version, words)] = ready

    def dismiss(self, *keys: tuple[str, ...]) -> None:
        """What was prepared and is not asked any more; all of it, where none is named."""
        for key in keys or tuple(self.waiting):
            if one := self.waiting.pop(key, None):
                one.end()

    def _release(self, version: str, *words: str | Path) -> list[str]:
        return [*self.as_owner, str(self.program(version)), "release", *map(str, words)]

    def _failed(self, version: str, verb: str, error: Refused) -> Refused:
        return Refused(
            f"{version} の「{verb}」が失敗しました: {_reason(str(error))}"
            f"（全文: {self.places.log}） / `release {verb}` of {version} failed; the log has all of it."
        )

    def models(self, version: str) -> dict[str, str]:
        """The setting under which a release that does not serve finds its own models."""
        folder = self.places.release(version) / "models"
        return {"KURA_MODELS": str(folder)} if folder.is_dir() else {}

    def facts(self, version: str) -> Facts:
        told = self.ask(version, "facts", more=self.models(version))
        return Facts(
            told["version"],
            tuple(told["revisions"]),
            told["embedder"],
            Path(told["data"]),
            None if told["postgresql"] else Path(told["database"]),
            told["revision"],
            told["rows"],
            Path(told["infer_socket"]),
            Path(told["secrets_key"]),
            Path(told["log"]),
            told.get("schema", ""),
            tuple(told.get("lacks", ())),
            tuple(told.get("foreign", ())),
            told.get("bytes", 0),
            tuple(told.get("embedders", ())),
            told.get("dim", 0),
            told.get("searched_by", ""),
        )

    # --- the owner of the data ------------------------------------------------------

    @property
    def _owner(self) -> tuple[int, int] | None:
        """None where this process may as well do it itself."""
        about = self.data.stat()
        return (about.st_uid, about.st_gid) if os.geteuid() == 0 and about.st_uid else None

    @property
    def as_owner(self) -> list[str]:
        argv = ["setpriv", "--pdeathsig", "KILL"]
        if self._owner:
            uid, gid = self._owner
            argv += ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
        return argv

    def owned(self, do: Callable[[], T]) -> T:
        """Do it as the owner of the data folder, whose links root must not follow. What it gives
        back is JSON: root believes nothing from there but plain values.
        """
        if self._owner is None:
            return do()
        uid, gid = self._owner
        ours, theirs = os.pipe()
        parent = os.getpid()
        if (child := os.fork()) == 0:
            status = 1
            try:
                os.close(ours)
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
                try:
                    out = json.dumps({"value": do()})
                except OSError as error:
                    told = [error.errno, error.strerror, str(error.filename or "")]
                    out = json.dumps({"system": told})
                except Exception as error:  # noqa: BLE001  it is raised on the other side
                    out = json.dumps({"refused": str(error) or type(error).__name__})
                with os.fdopen(theirs, "w", encoding="utf-8") as pipe:
                    pipe.write(out)
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        if not said:
            raise Refused(
                "データフォルダーでの作業が途中で止まりました。 / The work on the data broke off."
            )
        found = json.loads(said)
        if "system" in found:
            number, text, name = found["system"]
            raise OSError(number, text, name or None)
        if "refused" in found:
            raise Refused(found["refused"])
        return found["value"]  # type: ignore[no-any-return]

    # --- running --------------------------------------------------------------------

    def running(self) -> bool:
        return any(files.held(self.data, name) for name in PROCESSES)

    def start(self) -> None:
        """Begin; whether it serves is for the check to say."""
        self.context.say(f"Kura {self.installed()} を起動しています / starting")
        if not self.systemd:
            services.by_itself(self.deployed)
            return
        steps.program(self.context, ["systemctl", "daemon-reload"])
        steps.program(self.context, ["systemctl", "restart", units.FIREWALL])
        steps.program(self.context, ["systemctl", "reset-failed", "kura-*"])
        names = [f"{one}.service" for one in reversed(UNITS)]
        steps.program(self.context, ["systemctl", "start", *names, units.TARGET])

    @property
    def deployed(self) -> deploy.Site:
        """The same host, as `install` knows it."""
        kept = self.places.etc / "install.toml"
        said = answers.read(kept) if kept.is_file() else Answers()
        context = self.context
        return deploy.Site(
            self.places, context.verb, self.installed(), answers=said, systemd=self.systemd
        )

    def apply(self, version: str) -> None:
        """Units and the like, by the installer of that release. A host without answers has none."""
        if not (self.places.etc / "install.toml").is_file():
            return
        own = self.places.release(version) / "venv" / "bin" / "kura-installer"
        steps.program(self.context, [own, "apply-host", "--root", self.places.root])
        self.settings_changed()

    def settings_changed(self) -> None:
        self.__dict__.pop("settings", None)  # read again when next asked for

    def stop(self, within_s: float = STOP_S) -> None:
        """All of it, in order; what does not stop in time is killed. Raises Refused."""
        if self.systemd:
            for unit in UNITS:  # questions are answered until documents have been put down
                steps.program(self.context, ["systemctl", "stop", f"{unit}.service"])
            steps.program(self.context, ["systemctl", "stop", "kura.target"])
        elif pid := files.held(self.data, "up"):
            self._end(pid, within_s)
        deadline = time.monotonic() + 10
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if busy := [name for name in PROCESSES if files.held(self.data, name)]:
            raise Refused(
                f"kura {'、'.join(busy)} が動いています。止めてからやり直してください。"
                f" / Still running: {', '.join(busy)}. Stop it, then run this again."
            )

    def _end(self, pid: int, within_s: float) -> None:
        try:
            handle = os.pidfd_open(pid)
        except (ProcessLookupError, OSError):
            return
        try:
            if not files.held(self.data, "up"):
                return  # it ended meanwhile, and the number may be another's
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            deadline = time.monotonic() + within_s
            while files.held(self.data, "up") and time.monotonic() < deadline:
                time.sleep(0.05)
            if files.held(self.data, "up"):
                signal.pidfd_send_signal(handle, signal.SIGKILL)  # its children go with it
        except ProcessLookupError:
            return
        finally:
            os.close(handle)


def _key(version: str, words: tuple[str | Path, ...]) -> tuple[str, ...]:
    return (version, *map(str, words))


def _reason(said: str) -> str:
    """The last line is what a program has to say; of a check, the thing that did not work."""
    last = said.strip().splitlines()[-1]
    try:
        failed = next(one for one in json.loads(last)["steps"] if one["problem"])
    except (ValueError, KeyError, TypeError, StopIteration):
        return last[:500]
    return f"{failed['name']}: {failed['problem']}"[:500]
