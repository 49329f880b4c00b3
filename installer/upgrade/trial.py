"""The new release, run on a copy of everything while the old one serves: on a port of its own, for itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from installer import steps
from installer.steps import Refused
from installer.upgrade import embedder, files, folders
from installer.upgrade.database import Database
from installer.upgrade.site import Facts, Site

READY_S = 900.0  # nobody waits for it: it may make its indexes anew
STOP_S = 40.0
# what the copy must not do: listen for others, back up, read pages for hours
_QUIET = {
    "KURA_WEB_HOST": "127.0.0.1",
    "KURA_PUBLIC_ORIGIN": "",
    "KURA_TLS_CERTIFICATE": "",
    "KURA_TLS_KEY": "",
    "KURA_BACKUP_FOLDER": "",
    "KURA_OCR": "false",
}


def environment(site: Site, facts: Facts, database: Database, version: str) -> dict[str, str]:
    """Settings under which everything of the copy lies in its own folder."""
    folder = folders.next_folder(site)
    inside = facts.secrets_key.parent == site.data
    found = {
        "KURA_DATA": str(folder),
        **database.environment(folder),
        "KURA_INFER_SOCKET": str(folder / "infer.sock"),
        "KURA_LOG": str(folder / "kura.log"),
        "KURA_SECRETS_KEY": str(folder / facts.secrets_key.name if inside else facts.secrets_key),
        **_QUIET,
        **site.models(version),
    }
    if "KURA_MODELS" not in found | site.settings:
        found["KURA_MODELS"] = str(site.data / "models")
    return found


def run(site: Site, facts: Facts, database: Database, new: Facts) -> float:
    """Returns the seconds until it served. Raises Refused with the first thing that did not work."""
    version = new.version
    env = environment(site, facts, database, version)
    site.ask(version, "isolate", more=env)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env["KURA_WEB_PORT"] = str(free.getsockname()[1])
    lacking = _lacking(site, version, env, embedder.beside(facts, new))
    if lacking:
        if not embedder.answers(facts, new):
            raise Refused(
                f"新しい版の埋め込みモデル {new.embedder} を、動いているものの隣で試すメモリがありません: {lacking}"
                f" / No memory to try the new embedder beside the models that run."
                f"{embedder.as_before(facts, new)}"
            )
        site.context.say(
            "モデルを二つ載せるメモリがないので、動いているほうのモデルで点検します。"
            " / No memory for the models twice: the running ones are asked."
        )
        env["KURA_INFER_SOCKET"] = str(facts.infer_socket)
    with _running(site, version, env, ("up",) if not lacking else ("web", "work")):
        wanted = ("--version", version, "--ready", str(READY_S))
        told = site.ask(version, "check", *wanted, more=env)
        return float(told["steps"][0]["took_s"])


def _lacking(site: Site, version: str, env: dict[str, str], beside: str) -> str:
    """Why `kura infer` would not start beside the one there is, by its own plan; "" where it would.

    Raises Refused where it cannot start at all.
    """
    also = ("--beside", beside) if beside else ()
    done = subprocess.run(
        [*site.as_owner, str(site.program(version)), "infer", "--plan", "--json", *also],
        env=site.environment(env),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    try:
        return str(json.loads(done.stdout)["refusal"])
    except (ValueError, KeyError):
        said = (done.stderr.strip().splitlines() or [f"終了コード {done.returncode}"])[-1]
        raise Refused(
            f"{version} のモデルを読み込めません: {said[:500]}"
            f" / The models of {version} cannot be loaded."
        ) from None


@contextmanager
def _running(
    site: Site, version: str, env: dict[str, str], words: tuple[str, ...]
) -> Iterator[None]:
    """They end with this process, however it ends."""
    environ = site.environment(env) | {steps.MARK: str(site.places.state)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        with (site.places.state / "trial.log").open("wb") as log:
            started += [
                subprocess.Popen(
                    [*site.as_owner, str(site.program(version)), word],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    process_group=0,
                )
                for word in words
            ]
        yield
    finally:
        for one in started:
            one.terminate()
        for one in started:
            try:
                one.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(one.pid, signal.SIGKILL)
                one.wait()


def prepare(site: Site, facts: Facts, database: Database, version: str) -> None:
    """A copy of all that is there, while it is written to, brought up to the new release."""
    folder = folders.next_folder(site)
    but = (*database.files(), files.SWITCHING)
    site.owned(lambda: files.snapshot(site.data, folder, but, site.log))
    database.copy(site)
    site.ask(version, "migrate", more=environment(site, facts, database, version))
