"""Steps killed and interrupted anywhere come to the same end; what was begun can be taken back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from installer import steps
from installer.places import Places, point, sweep, write
from installer.steps import Context, Refused, Step

ROOT = Path(__file__).resolve().parent.parent.parent


def made(name: str, fails: Callable[[], bool] = lambda: False) -> Step[Context]:
    def where(context: Context) -> Path:
        return context.places.root / name

    def do(context: Context) -> None:
        if fails():
            raise Refused("ディスクがいっぱいです / the disk is full")
        write(where(context), name)

    return Step(
        name,
        f"{name}を作成",
        f"make {name}",
        lambda context: where(context).exists(),
        do,
        lambda context: where(context).unlink(missing_ok=True),
        lambda context: f"writes {where(context)}",
    )


def context(root: Path, said: list[str] | None = None) -> Context:
    places = Places(root)
    places.state.mkdir(parents=True, exist_ok=True)
    return Context(places, "install", "1.0", (said if said is not None else []).append)


def told(root: Path) -> list[tuple[str, str]]:
    return [(e["event"], e.get("step", "")) for e in context(root).journal.events()]


def test_it_goes_on_where_it_failed_and_does_nothing_twice(tmp_path: Path) -> None:
    full = [True]
    plan = [made("鍵"), made("設定", lambda: full[0]), made("起動")]
    with pytest.raises(Refused, match="いっぱい"):
        steps.run(plan, context(tmp_path))
    first = (tmp_path / "鍵").stat().st_mtime_ns
    full[0] = False
    said: list[str] = []
    steps.run(plan, context(tmp_path, said))
    assert said[0] == "[1/3] 済 / done: 鍵を作成 / make 鍵"
    assert (tmp_path / "鍵").stat().st_mtime_ns == first
    assert told(tmp_path) == [
        ("begin", ""),
        *[("start", "鍵"), ("end", "鍵"), ("start", "設定"), ("failed", "設定"), ("begin", "")],
        *[("start", "設定"), ("end", "設定"), ("start", "起動"), ("end", "起動"), ("finish", "")],
    ]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "鍵").touch()
    steps.run(
        [made("鍵"), made("設定")], Context(Places(tmp_path), "install", say=said.append), dry=True
    )
    assert [s.strip() for s in said] == [
        "済 / done  鍵を作成 / make 鍵",
        "→ 行う / to do  設定を作成 / make 設定",
        f"writes {tmp_path}/設定",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["鍵"]


def test_a_step_without_its_result_is_refused(tmp_path: Path) -> None:
    idle: Step[Context] = Step("idle", "何もしない", "idle", lambda c: False, lambda c: None)
    with pytest.raises(Refused, match="確かめられません"):
        steps.run([idle], context(tmp_path))


def test_what_was_begun_is_taken_back_last_first_also_by_a_second_call(tmp_path: Path) -> None:
    order: list[str] = []

    def noting(name: str, undo: Callable[[Context], None]) -> Callable[[Context], None]:
        def noted(context: Context) -> None:
            order.append(name)
            undo(context)

        return noted

    plan = [made("a"), made("b"), made("c", lambda: True), made("d")]
    plan = [
        Step(s.name, s.title_ja, s.title_en, s.done, s.do, noting(s.name, s.undo)) for s in plan
    ]
    here = context(tmp_path)
    with pytest.raises(Refused):
        steps.run(plan, here)
    assert here.journal.begun("install") == ["a", "b", "c"]
    assert here.journal.begun("upgrade") == []
    steps.back(plan, here)
    assert order == ["c", "b", "a"]
    assert not (tmp_path / "a").exists()
    steps.back(plan, here)
    assert order == ["c", "b", "a"], "nothing is left to take back"


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    journal = context(tmp_path).journal
    journal.write(event="begin", verb="install")
    with Places(tmp_path).journal.open("ab") as file:
        file.write(b'{"at": "2026-11-27", "event": "sta')
    journal.write(event="start", verb="install", step="鍵")
    assert journal.begun("install") == ["鍵"]
    assert len(list(journal.events())) == 2


KILLED = """
import os, sys
from pathlib import Path
from installer import steps
from installer.places import Places, point, write
from installer.steps import Context, Step

at, root = int(sys.argv[1]), Path(sys.argv[2])
seen = 0
WRITES = {"open", "os.rename", "os.symlink", "os.mkdir", "os.chmod", "os.truncate", "os.remove"}

def count(event, given):
    global seen
    if event not in WRITES or (event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    seen += 1
    if seen == at:
        os.kill(os.getpid(), 9)

def step(name, content, done):
    def do(context):
        write(root / name, content)
        (root / "v1").mkdir(exist_ok=True)
        point(root / "current", root / "v1")
    return Step(name, name, name, done, do)

places = Places(root)
plan = [step(n, n * 1000, lambda c, n=n: (root / n).exists()) for n in "ab"]
sys.addaudithook(count)
with steps.alone(places):
    from installer.places import sweep
    sweep(root)
    steps.run(plan, Context(places, "install", "1", lambda text: None))
"""


def test_killed_at_each_write_the_next_run_ends_the_same(tmp_path: Path) -> None:
    ends = set()
    for at in range(1, 1000):
        root = tmp_path / str(at)
        root.mkdir()
        first, second = (
            subprocess.run(
                [sys.executable, "-S", "-E", "-c", KILLED, str(n), str(root)],
                cwd=ROOT, check=False, timeout=60,
            ).returncode
            for n in (at, 0)
        )  # fmt: skip
        assert second == 0
        files = {p.name: p.read_text() for p in root.iterdir() if p.is_file()}
        ends.add(json.dumps([files, str((root / "current").readlink())], sort_keys=True))
        assert {p.name for p in root.iterdir()} == {"a", "b", "v1", "current", "var"}
        if first == 0:
            break
    assert first == 0 and at > 15 and len(ends) == 1


SLOW = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from installer import steps
from installer.places import Places
from installer.steps import Context, Refused, Step

places = Places(Path(sys.argv[1]))
context = Context(places, "install")
work = Step("slow", "遅い", "slow", lambda c: False, lambda c: steps.program(
    c, ["sh", "-c", "touch $0/begun; sleep 300; touch $0/written", sys.argv[1]]))
try:
    with steps.alone(places):
        if sys.argv[2:]:
            sys.exit(0)
        steps.run([work], context)
except Refused as refused:
    sys.exit(str(refused))
except KeyboardInterrupt:
    sys.exit(130)
"""


def slow(root: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", SLOW, str(root), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ours(root: Path) -> list[str]:
    """Programs that carry the mark of this state folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{steps.MARK}={Places(root).state}".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def begun(root: Path) -> None:
    end = time.monotonic() + 10
    while not (root / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_program_ends_with_the_installer(
    tmp_path: Path, how: signal.Signals
) -> None:
    installer = slow(tmp_path)
    begun(tmp_path)
    assert ours(tmp_path)
    installer.send_signal(how)
    installer.communicate(timeout=15)
    assert installer.returncode == 130
    assert not ours(tmp_path) and not (tmp_path / "written").exists()
    assert told(tmp_path)[-1] == ("failed", "slow")


def test_a_killed_installers_program_is_ended_by_the_next_and_two_never_work_at_once(
    tmp_path: Path,
) -> None:
    installer = slow(tmp_path)
    begun(tmp_path)
    second = slow(tmp_path, "look")
    said, _ = second.communicate(timeout=15)
    assert second.returncode == 1 and str(installer.pid) in said and "すでに動いています" in said
    installer.kill()
    installer.communicate(timeout=15)
    assert ours(tmp_path), "it goes on by itself"
    third = slow(tmp_path, "look")
    third.communicate(timeout=15)
    assert third.returncode == 0
    assert not ours(tmp_path)


def test_what_fails_is_told_with_its_last_lines_and_logged_whole(tmp_path: Path) -> None:
    here = context(tmp_path)
    with pytest.raises(Refused, match=r"(?s)終了コード 3.*壊れた"):
        steps.program(here, ["sh", "-c", "echo 壊れた >&2; exit 3"])
    with pytest.raises(Refused, match="実行できません"):
        steps.program(here, ["/nothing/here"])
    assert steps.program(here, ["echo", "よし"]) == "よし\n"
    assert "壊れた" in here.places.log.read_text("utf-8")


def test_a_file_is_whole_and_never_more_open_than_said(tmp_path: Path) -> None:
    write(tmp_path / "secret", "値", 0o640)
    assert (tmp_path / "secret").stat().st_mode & 0o7777 == 0o640
    blocked = tmp_path / "folder"
    blocked.mkdir()
    with pytest.raises(OSError):
        write(blocked, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "secret"]
    (tmp_path / ".secret.new-1234abcd").write_text("half")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "secret"]


def test_the_current_release_is_named_by_its_link(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert (places.installed(), places.versions()) == ("", [])
    for version in ("0.1.0", "0.2.0-rc1"):
        places.release(version).mkdir(parents=True)
        point(places.current, places.release(version))
        assert places.installed() == version
    assert str(places.current.readlink()) == "releases/0.2.0-rc1"
    assert places.versions() == ["0.1.0", "0.2.0-rc1"]
    for hostile in ("../x", "1.0/../../x", "", ".", "1.0\n", "/etc"):
        with pytest.raises(ValueError):
            places.release(hostile)
