"""The supervisor, over real processes: small ones that start, die and hang as told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import logs, up
from appliance.errors import Conflict
from appliance.settings import Settings
from appliance.up import MISCONFIGURED, Log, Program, Supervisor

PYTHON = sys.executable


def program(name: str, code: str, **more: Any) -> Program:
    return Program(name, [PYTHON, "-c", code], **more)


WAITS = "import signal, time; print('here', flush=True); signal.pause()"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\nwhile True: time.sleep(1)"


class Running:
    def __init__(self, tmp_path: Path, *programs: Program, **more: Any) -> None:
        self.path = tmp_path / "kura.log"
        self.log = Log(self.path)
        self.said: list[str] = []
        more = {"first_pause_s": 0.05} | more
        self.supervisor = Supervisor(programs, self.log, self.said.append, **more)
        self.stop = threading.Event()
        self.status: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.status = self.supervisor.run(self.stop)
        self.supervisor.stop()

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(20)
        self.log.__exit__()
        assert not self.thread.is_alive()

    def events(self, of: str = "", event: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]
        return [
            e
            for e in found
            if (not of or of in (e.get("of"), e["process"])) and (not event or e["event"] == event)
        ]

    def until(self, true: Callable[[], object], timeout_s: float = 15) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, self.path.read_text("utf-8")
            time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with Running(tmp_path, program("web", WAITS), program("work", WAITS)) as running:
        running.until(lambda: "ready" in running.said)
        before = running.supervisor.pids()
        os.kill(before["web"], signal.SIGKILL)
        running.until(lambda: running.supervisor.pids().get("web", before["web"]) != before["web"])
        assert running.supervisor.pids()["work"] == before["work"]
        (ended,) = running.events("web", "ended")
        assert ended["status"] == -9 and ended["level"] == "error"
    assert any("SIGKILL" in text for text in running.said)


def test_one_that_keeps_dying_is_started_ever_later_until_it_is_stable(tmp_path: Path) -> None:
    flag = tmp_path / "well"
    code = f"import os, signal, sys; os.path.exists({str(flag)!r}) and signal.pause(); sys.exit(3)"
    with Running(tmp_path, program("web", code), stable_s=2.0) as running:
        running.until(lambda: len(running.events("web", "ended")) >= 4)
        pauses = [e["again_in_s"] for e in running.events("web", "ended")][:4]
        assert pauses == [0.05, 0.1, 0.2, 0.4]
        flag.touch()
        running.until(lambda: running.supervisor.pids().get("web"))
        time.sleep(2.5)
        flag.unlink()
        n = len(running.events("web", "ended"))
        os.kill(running.supervisor.pids()["web"], signal.SIGKILL)
        running.until(lambda: len(running.events("web", "ended")) > n)
        assert running.events("web", "ended")[n]["again_in_s"] == 0.05


def test_they_stop_in_the_reverse_order_and_the_deaf_are_killed(tmp_path: Path) -> None:
    programs = (program("infer", WAITS), program("web", DEAF, stop_s=0.3), program("work", WAITS))
    with Running(tmp_path, *programs) as running:
        running.until(lambda: len(running.events(event="here")) == 2)
        running.until(lambda: running.events(event="deaf"))
        pids = running.supervisor.pids()
    assert [e["of"] for e in running.events(event="stopped")] == ["work", "web", "infer"]
    assert [e["of"] for e in running.events(event="killed")] == ["web"]
    assert all(gone(pid) for pid in pids.values()) and running.status == 0


def test_what_a_process_started_goes_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, signal\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(p.pid, flush=True)\nsignal.pause()"
    )
    with Running(tmp_path, program("work", code)) as running:
        running.until(lambda: any(e["process"] == "work" for e in running.events("work")))
        grandchild = int(next(e["event"] for e in running.events("work") if e["process"] == "work"))
        os.kill(running.supervisor.pids()["work"], signal.SIGKILL)
        running.until(lambda: gone(grandchild))


def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    child = (
        "import signal, sys; from appliance import up; up.die_with(int(sys.argv[1]))\n"
        "print('here', flush=True); signal.pause()"
    )
    parent = (
        "import os, subprocess, sys, signal\n"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())])\n"
        "print(p.pid, flush=True); signal.pause()"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = subprocess.Popen([PYTHON, "-c", parent], stdout=subprocess.PIPE, text=True, env=env)
    assert started.stdout is not None
    with started.stdout as lines:
        words = {lines.readline().strip(), lines.readline().strip()}
        (pid,) = map(int, words - {"here"})
        started.kill()
        started.wait()
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(pid)


def test_a_misconfiguration_stops_everything_and_says_why(tmp_path: Path) -> None:
    code = f"import sys; print('kura: web_port must be a int'); sys.exit({MISCONFIGURED})"
    with Running(tmp_path, program("infer", WAITS), program("web", code)) as running:
        running.thread.join(15)
    assert running.status == MISCONFIGURED
    assert any("web_port must be a int" in text for text in running.said)
    assert running.events("infer", "stopped")


def test_one_waits_for_another_to_be_ready(tmp_path: Path) -> None:
    flag = tmp_path / "loaded"
    programs = (
        program("infer", WAITS, ready=flag.exists),
        program("work", WAITS, after="infer"),
        program("late", WAITS, after="infer", patience_s=0.3),
    )
    with Running(tmp_path, *programs) as running:
        running.until(lambda: running.events("late", "started"))  # patience has an end
        assert not running.events("work", "started") and "ready" not in running.said
        flag.touch()
        running.until(lambda: "ready" in running.said)
        assert running.events("work", "started")


# --- the log -------------------------------------------------------------------------


def test_every_event_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    code = (
        "import json\n"
        "print('plain \\x1b[31mred\\x1b[0m \\u2028 text')\n"
        "print(json.dumps({'event': 'structured', 'level': 'error', 'n': 1}))\n"
        "print('x' * 1000000)\n"
        "print('\\x00\\xff', flush=True)\n"
        "import signal; signal.pause()"
    )
    with Running(tmp_path, program("web", code)) as running:
        running.until(lambda: len(running.events("web")) >= 5)
    text = running.path.read_text("utf-8")
    assert not any(c in text for c in "\x1b\u2028\x00\r")
    (structured,) = running.events("web", "structured")
    assert structured["level"] == "error" and structured["n"] == 1
    assert max(map(len, text.splitlines())) < 100_000


def test_nothing_in_an_event_ends_its_line() -> None:
    event = {"event": 'a\r\n{"event": "forged"}\u2029\u202e\x85', "more": "\ud800" + "長" * 100_000}
    line = logs.line(event)
    assert len(line.splitlines()) == 1 and len(line) < 10_000
    assert json.loads(line)["event"] == event["event"]
    line.encode()


def test_the_log_turns_over(tmp_path: Path) -> None:
    with Log(tmp_path / "kura.log", longest=1000, kept=3) as log:
        for n in range(100):
            log.write("web", {"event": f"number {n}"})
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["kura.log", "kura.log.1", "kura.log.2", "kura.log.3"]
    texts = [(tmp_path / name).read_text() for name in reversed(files)]
    numbers = [json.loads(x)["event"] for text in texts for x in text.splitlines()]
    assert numbers == [f"number {n}" for n in range(100 - len(numbers), 100)]
    assert all((tmp_path / name).stat().st_mode & 0o077 == 0 for name in files)


# --- one at a time -------------------------------------------------------------------


def test_a_second_one_on_the_same_data_is_refused_by_name(tmp_path: Path) -> None:
    with up.held(tmp_path, "up"):
        with pytest.raises(Conflict, match=str(os.getpid())), up.held(tmp_path, "up"):
            pass
        with up.held(tmp_path, "web"), up.held(tmp_path / "other", "up"):
            pass
    with up.held(tmp_path, "up"):
        pass


def test_the_lock_of_one_that_was_killed_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, signal; from pathlib import Path; from appliance import up\n"
        "with up.held(Path(sys.argv[1]), 'up'):\n    print('held', flush=True); signal.pause()"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    holder = subprocess.Popen(
        [PYTHON, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert holder.stdout is not None
    with holder.stdout as lines:
        assert lines.readline() == "held\n"
        with pytest.raises(Conflict, match=str(holder.pid)), up.held(tmp_path, "up"):
            pass
        holder.kill()
        holder.wait()
    with up.held(tmp_path, "up"):
        pass


def test_readiness_is_what_the_processes_say(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, infer_socket=tmp_path / "infer.sock", web_port=1)
    assert not up.answers_on_socket(settings.infer_socket) and not up.web_ready(settings)

    def serve(listening: socket.socket, reply: bytes) -> None:
        with listening.accept()[0] as wire:
            wire.recv(4096)
            wire.sendall(reply)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(settings.infer_socket))
        listening.listen()
        for reply, ready in (
            (b"HTTP/1.1 503 no\r\n\r\n", False),
            (b"HTTP/1.1 200 OK\r\n\r\n", True),
        ):
            thread = threading.Thread(target=serve, args=(listening, reply))
            thread.start()
            assert up.answers_on_socket(settings.infer_socket) == ready
            thread.join()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        there = replace(settings, web_port=listening.getsockname()[1])
        for status, ready in (("starting", False), ("degraded", True), ("ready", True)):
            body = json.dumps({"status": status}).encode()
            reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            thread = threading.Thread(target=serve, args=(listening, reply))
            thread.start()
            assert up.web_ready(there) == ready
            thread.join()


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    others = children()  # a browser's driver, say, that another test still holds
    yield
    assert children() <= others
