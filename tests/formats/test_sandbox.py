"""Each wall of the sandbox, touched from inside by a canary."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from appliance.errors import SettingsError, SourceBusy, TooLarge, Transient, Unreadable
from appliance.formats import answers
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.sovereignty import egress
from appliance.types import NOBODY, Child, RawFile

HERE = Path(__file__).parent
Text = Callable[..., str]


def aviary(tmp_path: Path, **settings: object) -> Sandbox:
    chosen = {"parse_seconds": 3, "parse_memory": 200_000_000} | settings
    return Sandbox(
        Settings(data=tmp_path, **chosen),  # type: ignore[arg-type]
        module="canaries",
        path=[HERE],
        output_bytes=10_000_000,
    )


@pytest.fixture(scope="module")
def cage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with aviary(tmp_path_factory.mktemp("data")) as sandbox:
        yield sandbox


def named(canary: str, rest: str | bytes = "") -> RawFile:
    rest = rest.encode() if isinstance(rest, str) else rest
    opened = partial(io.BytesIO, canary.encode() + b"\n" + rest)
    return RawFile("canary.txt", "1", opened, NOBODY, "canary", datetime(2026, 4, 1, tzinfo=UTC))


@pytest.fixture
def text(cage: Sandbox) -> Text:
    return lambda canary, rest="": cage.parse(named(canary, rest))[0].text


@pytest.mark.parametrize(
    "canary",
    ["sockets", "lookup", "bomb", "thread", "run", "execute", "signals", "kernel", "loosen"],
)
def test_a_parser_gets_permission_denied(text: Text, canary: str) -> None:
    assert set(text(canary).split()) == {"EPERM"}


def test_what_a_parser_asks_is_counted(tmp_path: Path) -> None:
    """It has nowhere to write a line to; what was asked is in the document's row."""
    (tmp_path / egress.FOLDER).mkdir()  # as `kura work` makes it
    with aviary(tmp_path) as sandbox:
        for _ in range(3):
            assert sandbox.parse(named("asks"))[0].text == "EgressBlocked"
    assert egress.counts(tmp_path) == {"parser": 3}


def test_a_parser_reads_nothing_of_the_machine(text: Text, tmp_path: Path) -> None:
    secret = tmp_path / "kura.db"
    secret.write_text("himitsu")
    secret.chmod(0o666)
    assert set(text("reads", str(secret)).split()) <= {"EPERM", "EACCES"}


def test_a_parser_writes_nothing(text: Text, tmp_path: Path) -> None:
    mine = tmp_path / "file"
    mine.write_text("whole")
    mine.chmod(0o666)
    assert set(text("writes", str(mine)).split()) <= {"EPERM", "EACCES", "EBADF"}
    assert mine.read_text() == "whole"
    assert not Path("/etc/kura-canary").exists()
    assert not Path("/tmp/kura-canary").exists()


def test_a_parser_has_its_file_and_its_answer_and_nothing_else(text: Text) -> None:
    assert json.loads(text("descriptors")) == [0, 1, 2, 3, 4]


def test_a_parser_that_collects_garbage_copies_little_of_what_all_share(text: Text) -> None:
    assert int(text("tidies")) < 500  # pages; 2,000 and more of the warm process's objects else


def test_memory_ends_the_parser_alone(cage: Sandbox, text: Text) -> None:
    before = cage.pid
    with pytest.raises(Unreadable, match="メモリ"):
        text("hog")
    assert cage.pid == before
    assert text("plain", "後") == "plain\n後"


@pytest.mark.parametrize("canary", ["spin", "sleeper", "stubborn"])
def test_time_ends_the_parser(text: Text, canary: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unreadable, match="3 秒"):
        text(canary)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("canary", ["flood", "drip"])
def test_an_endless_answer_is_cut(text: Text, canary: str) -> None:
    with pytest.raises(TooLarge, match="多すぎます"):
        text(canary)


@pytest.mark.parametrize("canary", ["crash", "silent"])
def test_a_file_that_kills_its_parser_twice_is_unreadable(text: Text, canary: str) -> None:
    with pytest.raises(Unreadable, match="2 回異常終了"):
        text(canary)
    assert text("plain") == "plain\n"


@pytest.mark.parametrize(
    ("killers", "said"),
    [
        ("crash", ["SIGSEGV"]),
        ("silent", ["終了コード 0"]),
        ("crash hog crash", ["SIGSEGV", "メモリ", "SIGSEGV"]),
        ("spin", ["3 秒"]),
    ],
)
def test_what_kills_its_parser_takes_no_other_file_with_it(
    cage: Sandbox, killers: str, said: list[str]
) -> None:
    document, _ = cage.parse(named("holder", f"一 {killers} 二"))
    first, *bad, last = document.children
    assert first.document and first.document.text == "一"
    assert last.document and last.document.text == "二"
    assert [c.path.split()[1] for c in bad] == killers.split()
    for child, words in zip(bad, said, strict=True):
        assert child.document is None and words in str(child.problem)
    assert (document.text, document.problems) == ("own", ())


def test_time_is_each_files_own_and_ends_at_last(
    cage: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, _ = cage.parse(named("holder", "slow " * 4))
    assert [c.document and c.document.text for c in document.children] == ["done"] * 4
    monkeypatch.setattr("appliance.formats.sandbox._LONGEST", 1)
    document, _ = cage.parse(named("holder", "一 spin 二 三"))
    assert [c.document and c.document.text for c in document.children] == ["一"]
    assert document.text == "own" and "2 番目のファイルから後" in document.problems[0]


def frames(*rows: object) -> bytes:
    """What a process says before its last word, and that."""
    out = b""
    for n, row in enumerate(rows, 1):
        data = json.dumps(row).encode()
        out += (len(data) | (n < len(rows)) << 63).to_bytes(8, "big") + data
    return out


CHILD = {
    "path": "a", "media_type": "x", "size_bytes": 1, "modified_at": "2026-04-01T00:00:00+00:00",
    "problem": "bad", "document": None, "at": [1], "digest": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "lie",
    [
        {"path": 5},
        {"problem": None},
        {"document": {}},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"modified_at": "yesterday"},
        {"at": ["1"]},
        {"digest": 5},
        {"document": {"text": "abc"}, "problem": None},
    ],
)
def test_what_is_said_of_a_file_inside_is_not_believed_either(lie: dict[str, object]) -> None:
    begun = {"number": 0, "path": "a"}
    said, last = answers.messages(frames(begun, {"children": [CHILD]}, GOOD))
    children: list[Child] = []
    assert answers.inside(said, 0, children) == (1, None) and children[0].problem == "bad"
    assert last and answers.file(last)[0].text == "abc"
    said, _ = answers.messages(frames(begun, {"children": [CHILD | lie]}, GOOD))
    with pytest.raises(Unreadable, match="正しくありません"):
        answers.inside(said, 0, [])
    for number in (-1, 2**50, "0"):
        said, _ = answers.messages(frames({"number": number, "path": "a"}, GOOD))
        with pytest.raises(Unreadable, match="正しくありません"):
            answers.inside(said, 0, [])


GOOD = {
    "media_type": "x", "text": "abc", "title": None, "problems": [], "marks": [],
    "pages": [[1, "scanned", 0.5, "none"]], "properties": [None, None, []],
    "runs": [[0, 3, 1, 0, 0, 9, 9, 0]], "own": [[1, "x"]],
}  # fmt: skip


@pytest.mark.parametrize(
    "lie",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"error": "SystemExit", "reason": "x"}',
        json.dumps(GOOD | {"text": 5}).encode(),
        json.dumps(GOOD | {"marks": [[9, "l", "page", 1, 0]]}).encode(),
        json.dumps(GOOD | {"marks": [[-1, "l", "page", 1, 0]]}).encode(),
        json.dumps(GOOD | {"marks": [[0, "l", "door", 1, 0]]}).encode(),
        json.dumps(GOOD | {"runs": [[0, 4, 1, 0, 0, 9, 9, 0]]}).encode(),
        json.dumps(GOOD | {"own": [["1", "x"]]}).encode(),
        json.dumps(GOOD | {"properties": [5, None, []]}).encode(),
        json.dumps(GOOD | {"properties": ["a", "tomorrow", []]}).encode(),
        json.dumps(GOOD | {"properties": ["a", None, [{}]]}).encode(),
        json.dumps(GOOD | {"properties": "abc"[:2]}).encode(),
        json.dumps(GOOD | {"pages": [[0, "fine", 1, "text"]]}).encode(),
        json.dumps(GOOD | {"pages": [[1, "odd", 1, "text"]]}).encode(),
        json.dumps(GOOD | {"pages": [[1, "fine", 2, "text"]]}).encode(),
        json.dumps(GOOD | {"marks": [[2, "l", "page", 1, 0], [1, "l", "page", 2, 0]]}).encode(),
        b'{"text":' + b"[" * 100_000,
    ],
)
def test_an_answer_that_lies_is_not_believed(text: Text, lie: bytes) -> None:
    with pytest.raises(Unreadable, match="正しくありません"):
        text("liar", lie)


def test_what_no_database_takes_is_cleaned_in_place(cage: Sandbox) -> None:
    document, _ = cage.parse(named("dirty"))
    assert document.text == " a [31m?b"
    assert document.marks[0].label == "x "
    assert (document.title, document.problems) == ("t ", ("p ",))


def test_many_threads_share_one_sandbox(text: Text) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: text("plain", str(n)), range(40))
        assert list(answers) == [f"plain\n{n}" for n in range(40)]


def test_a_killed_zygote_comes_back_and_the_file_at_hand_is_read(tmp_path: Path) -> None:
    with aviary(tmp_path, parse_seconds=10) as sandbox:
        first = sandbox.pid
        assert first
        killer = threading.Timer(0.3, os.kill, (first, signal.SIGKILL))
        killer.start()
        document, _ = sandbox.parse(named("slow"))
        killer.join()
        assert document.text == "done"
        assert sandbox.pid not in (None, first)


def test_a_zygote_that_always_dies_is_not_the_files_fault(tmp_path: Path) -> None:
    with aviary(tmp_path) as sandbox:
        over = threading.Event()

        def kill() -> None:
            while not over.wait(0.02):
                if pid := sandbox.pid:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(Transient):
                sandbox.parse(named("slow"))
        finally:
            over.set()
            killer.join()


def processes_of(pid: int) -> set[int]:
    """`pid` and its children, those that are not already dead."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            own, parent, state = int(stat.parent.name), *_parent(stat.read_text())
        except (OSError, ValueError):
            continue
        if pid in (own, parent) and state != "Z":
            found.add(own)
    return found


def _parent(stat: str) -> tuple[int, str]:
    state, parent = stat.rpartition(")")[2].split()[:2]
    return int(parent), state


def gone(pids: set[int]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(processes_of(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_close_leaves_no_process_and_ends_what_runs(tmp_path: Path) -> None:
    sandbox = aviary(tmp_path, parse_seconds=30)
    with ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(sandbox.parse, named("sleeper"))
        assert sandbox.pid
        while len(pids := processes_of(sandbox.pid)) < 2:
            time.sleep(0.02)
        sandbox.close()
        with pytest.raises(Transient):
            parsing.result(10)
    assert gone(pids)
    with pytest.raises(Transient):
        sandbox.parse(named("plain"))


def test_children_die_with_their_zygote(tmp_path: Path) -> None:
    with aviary(tmp_path, parse_seconds=30) as sandbox, ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(sandbox.parse, named("sleeper"))
        assert sandbox.pid
        while len(pids := processes_of(sandbox.pid)) < 2:
            time.sleep(0.02)
        os.kill(sandbox.pid, signal.SIGKILL)
        assert gone(pids)
        sandbox.close()
        with pytest.raises(Transient):
            parsing.result(10)


ORPHAN = """
import io, os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from appliance.formats import answers
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.types import RawFile

sandbox = Sandbox(Settings(data=Path(sys.argv[2])), module="canaries", path=[Path(sys.argv[3])])
print(sandbox.pid, flush=True)
file = RawFile("a", "1", lambda: io.BytesIO(b"sleeper"), (), "a", datetime.now(UTC))
sandbox.parse(file)
"""


SHORT_LIVED = """
import os, signal
from pathlib import Path
died = Path({died!r})
if not died.exists() or died.stat().st_size < {times}:
    with died.open("a") as marks:
        marks.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
from canaries import *
"""


@pytest.mark.parametrize("times", [1, 2, 9])
def test_a_process_killed_while_it_starts_is_started_again(tmp_path: Path, times: int) -> None:
    code = SHORT_LIVED.format(died=str(tmp_path / "died"), times=times)
    (tmp_path / "short_lived.py").write_text(code)
    path = [HERE, tmp_path]
    if times == 9:
        with pytest.raises(SettingsError, match="does not start"):
            Sandbox(Settings(data=tmp_path), module="short_lived", path=path)
        return
    with Sandbox(Settings(data=tmp_path), module="short_lived", path=path) as sandbox:
        assert sandbox.pid


def test_a_killed_worker_leaves_no_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", ORPHAN, str(HERE.parents[1]), str(tmp_path), str(HERE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        zygote = int(worker.stdout.readline())
        while len(pids := processes_of(zygote)) < 2:
            time.sleep(0.02)
        worker.kill()
    assert gone(pids)


def test_no_descriptor_is_left_open(cage: Sandbox, text: Text) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    text("plain")
    before = opened()
    for canary in ("plain", "crash", "flood", "hog", "liar"):
        try:
            text(canary)
        except (Unreadable, TooLarge):
            continue
    assert opened() == before


BLOCKED = """
import ctypes, struct, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from appliance.errors import SettingsError
from appliance.formats import confine
from appliance.formats import answers
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings

# prctl and seccomp refuse a filter from now on: a machine without seccomp
number = {"x86_64": (157, 317), "aarch64": (167, 277)}[__import__("platform").machine()]
rules = [(0x20, 0, 0, 0), (0x15, 4, 0, number[1]), (0x15, 0, 2, number[0]), (0x20, 0, 0, 16),
         (0x15, 1, 0, 22), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050016)]
code = b"".join(struct.pack("=HBBI", *r) for r in rules)
held = ctypes.create_string_buffer(code, len(code))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("=HxxxxxxQ", len(rules), ctypes.addressof(held))), 0, 0) == 0
try:
    Sandbox(Settings(data=Path(sys.argv[2])))
except SettingsError as error:
    print(error)
"""


def test_a_machine_without_seccomp_parses_nothing(tmp_path: Path) -> None:
    root = HERE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "閉じ込められません（seccomp refused" in done.stdout


LANDLOCK = """
import sys
sys.path.insert(0, sys.argv[1])
from appliance.formats import confine
confine._prctl(38, 1)
if not confine.landlock():
    print("PermissionError" * 3)
    sys.exit()
import os, socket
for attempt in (lambda: open("/etc/passwd"), lambda: open(sys.argv[2] + "/x", "w"),
                lambda: socket.create_connection(("127.0.0.1", 9))):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__)
"""


def test_landlock_alone_closes_the_file_system(tmp_path: Path) -> None:
    root = HERE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LANDLOCK, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("PermissionError") >= 2


def raw(path: Path, **more: object) -> RawFile:
    made = {"open": partial(path.open, "rb")} | more
    return RawFile(
        "a.txt", "1", access=NOBODY, title="a", modified_at=datetime(2026, 4, 1, tzinfo=UTC), **made
    )  # type: ignore[arg-type]


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"a" * 2000)
    with aviary(tmp_path, file_bytes=1000) as sandbox:
        with pytest.raises(TooLarge, match="上限 1,000"):
            sandbox.parse(raw(path))
        with pytest.raises(TooLarge, match="9,999"):
            sandbox.parse(raw(path, size_bytes=9_999))


class Growing(io.FileIO):
    """A file that somebody appends to, once, while it is read."""

    grown = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        if not self.grown:
            self.grown = True
            with open(self.name, "ab") as other:
                other.write(b"x")
        return data


def test_a_file_that_changes_while_it_is_read_waits(cage: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 3_000_000)
    with pytest.raises(SourceBusy):
        cage.parse(raw(path, open=partial(Growing, path)))


def test_a_source_that_fails_is_tried_again(cage: Sandbox, tmp_path: Path) -> None:
    def broken() -> io.BytesIO:
        raise OSError(5, "Input/output error")

    with pytest.raises(Transient, match="Input/output"):
        cage.parse(raw(tmp_path, open=broken))

    def busy() -> io.BytesIO:
        raise SourceBusy("later")

    with pytest.raises(SourceBusy, match="later"):
        cage.parse(raw(tmp_path, open=busy))


def test_an_empty_file_says_so(cage: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Unreadable, match="空"):
        cage.parse(raw(tmp_path / "empty"))


def test_a_parsers_process_whose_worker_was_killed_ends_without_a_word(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    boot = (
        "import sys; sys.path[:0] = sys.argv[4:]; "
        "from appliance.formats.child import main; main(int(sys.argv[1]), *sys.argv[2:4])"
    )
    about = [str(theirs.fileno()), "canaries", str(tmp_path), str(HERE.parents[1]), str(HERE)]
    argv = [sys.executable, "-I", "-c", boot, *about]
    with theirs:
        ended = subprocess.run(
            argv,
            pass_fds=[theirs.fileno()],
            env=egress.environment({}),
            capture_output=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_where_the_idle_class_is_refused_a_parser_takes_the_lowest_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a filter of system calls may, of a container or a unit."""
    import errno

    from appliance.formats import child

    given: list[int] = []

    def refused(*words: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    monkeypatch.setattr(os, "nice", given.append)
    child._step_back()
    assert given == [19]


def test_descriptors_are_kept_where_only_few_may_be_open() -> None:
    """A container's limit of 1000 refused number 1000, and every file with it."""
    code = """
import os, resource
from appliance.formats import child
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
source, output, given = os.open("/etc/passwd", os.O_RDONLY), *os.pipe()
assert child._only(source, output, given) == (3, 4, 5)
assert os.path.samestat(os.fstat(3), os.stat("/etc/passwd"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
