"""`kura-installer install` of a small bundle into a folder: stopped anywhere, run again, refused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.deploy import services
from installer.deploy.site import Site
from installer.places import Places
from tests.installer.bundles import KEY, OTHER, bundle
from tests.installer.tiny import tiny, wheel

ROOT = Path(__file__).resolve().parent.parent.parent
ANSWERS = 'name = "kura.example.co.jp"\nport = 8443\n[settings]\nocr = false\n'

# Killed, or interrupted: just after the journal says that a step is begun, just before it says that
# it is done, or at the n-th thing that is written.
DRIVER = """
import os, sys, signal
sys.path.insert(0, sys.argv[3])
from installer import steps
signal.signal(signal.SIGINT, signal.default_int_handler)
how, where = int(sys.argv[1]), sys.argv[2]
write, seen = steps.Journal.write, 0
WRITES = {"open", "os.rename", "os.symlink", "os.mkdir", "os.chmod", "os.remove", "subprocess.Popen"}

def stopping(self, **event):
    if where == event["event"] == "end":
        os.kill(os.getpid(), how)
    write(self, **event)
    if where == event["event"] == "start":
        os.kill(os.getpid(), how)

def count(event, given):
    global seen
    if event not in WRITES or (event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    seen += 1
    if seen == int(where):
        os.kill(os.getpid(), how)

if where.isdigit():
    sys.addaudithook(count)
else:
    steps.Journal.write = stopping
from installer.__main__ import main
main(sys.argv[4:])
"""

# how a script begins whose interpreter's path is longer than a kernel takes
LONG_SHEBANG = re.compile(rb"\A#!/bin/sh\n'''exec' (\S+) \"\$0\" \"\$@\"\n' '''\n")


class Machine:
    def __init__(self, tmp: Path) -> None:
        self.at = Places(tmp / "host")
        self.at.root.mkdir()
        self.answers = tmp / "answers.toml"
        self.answers.write_text(ANSWERS, "utf-8")
        self.key = tmp / "release.pub"
        self.key.write_text(KEY.public.text)
        self.bundle = tiny(tmp / "kura-0.2.0-amd64.kura.tar")

    def words(self, *more: str, verb: str = "install", bundle: Path | None = None) -> list[str]:
        named = [str(bundle or self.bundle), "--key", str(self.key)] if verb == "install" else []
        skip = ["--skip-preflight"] if verb == "install" else []
        given = ["--root", str(self.at.root), "--no-systemd", "--answers", str(self.answers)]
        return [verb, *named, *given, *skip, *more]

    def run(
        self, *more: str, verb: str = "install", status: int = 0, bundle: Path | None = None
    ) -> str:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-m", "installer", *self.words(*more, verb=verb, bundle=bundle)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == status, said
        assert "Traceback" not in said
        return said

    def stopped(self, how: signal.Signals, where: str) -> int:
        argv = [sys.executable, "-S", "-E", "-c", DRIVER, str(int(how)), where, str(ROOT)]
        done = subprocess.run(
            [*argv, *self.words()], cwd="/", capture_output=True, timeout=600, check=False
        )
        return done.returncode

    def up(self) -> int:
        """The process that serves; 0 where none does."""
        lock = self.at.data / "up.lock"
        pid = int(lock.read_text() or 0) if lock.exists() else 0
        return pid if pid and str(self.at.root) in _command(pid) else 0

    def processes(self) -> list[int]:
        return [
            int(p.name)
            for p in Path("/proc").glob("[0-9]*")
            if str(self.at.root) in _command(int(p.name)) and int(p.name) != os.getpid()
        ]

    def tree(self) -> dict[str, str]:
        """All that lies there, less what is by chance or of the clock."""
        found = {}
        for path in sorted(self.at.root.rglob("*")):
            name = str(path.relative_to(self.at.root))
            if name.startswith("var/lib/kura-installer/") or "__pycache__" in name:
                continue
            about = path.lstat()
            what = ""
            if path.is_symlink():
                what = str(path.readlink())
            elif path.is_file() and path.name not in {"secrets.key", "up.lock"}:
                text = path.read_bytes().replace(str(self.at.root).encode(), b"ROOT")
                text = LONG_SHEBANG.sub(rb"#!\1\n", text)
                what = hashlib.sha256(text).hexdigest()
                if name.endswith("/RECORD"):  # has digests of scripts, which name the place
                    what = str(len(text.splitlines()))
            found[name] = f"{about.st_mode:o} {what}"
        return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    one = Machine(tmp_path)
    yield one
    for pid in one.processes():
        os.kill(pid, signal.SIGKILL)


def test_one_command_and_it_serves_and_a_second_time_changes_nothing(machine: Machine) -> None:
    said = machine.run()
    at = machine.at
    assert "ABCD-EFGH-JKMN-PQRS" in said and "https://kura.example.co.jp:8443" in said
    assert machine.up() and at.installed() == "0.2.0"
    assert at.current.readlink() == Path("releases/0.2.0")
    release = at.release("0.2.0")
    assert {p.name for p in release.iterdir()} == {
        *("venv", "models", "docs", "locks", "models.lock", "sbom.json", "vulnerabilities.json"),
        "release.json",
    }
    assert json.loads((release / "release.json").read_text())["version"] == "0.2.0"
    modes = {
        at.data: 0o700,
        at.data / "secrets.key": 0o600,
        at.settings: 0o640,
        at.tls / "key.pem": 0o600,
        at.etc / "install.toml": 0o600,
        at.state: 0o700,
        at.commands / "kura": 0o755,
    }
    assert {p: p.stat().st_mode & 0o777 for p in modes} == modes
    settings = at.settings.read_text("utf-8")
    assert "KURA_OCR='false'" in settings and "KURA_WEB_PORT='8443'" in settings
    assert (at.units / "kura.target").exists() and at.firewall.exists()
    assert (at.keys / f"{KEY.public.name}.pub").read_text() == KEY.public.text

    before, key, pid = machine.tree(), (at.data / "secrets.key").read_bytes(), machine.up()
    said = machine.run()
    assert "を確認しました" in said and said.count("済 / done") == 17
    assert (machine.tree(), (at.data / "secrets.key").read_bytes()) == (before, key)
    assert machine.up() == pid, "it went on serving"
    assert machine.processes() == [pid]


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, str]:
    """What a run that nothing disturbs leaves."""
    (tmp_path / "clean").mkdir()
    clean = Machine(tmp_path / "clean")
    try:
        clean.run()
        return clean.tree()
    finally:
        for pid in clean.processes():
            os.kill(pid, signal.SIGKILL)


def whole(machine: Machine) -> None:
    assert machine.at.installed() in ("", "0.2.0")
    if machine.at.current.is_symlink():
        assert (machine.at.current / "release.json").is_file(), "never half a release"


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_stopped_at_each_step_it_goes_on_to_the_same_end(
    machine: Machine, wanted: dict[str, str], how: signal.Signals
) -> None:
    """M10: every step is stopped twice, when it has begun and when it is done but nobody knows yet."""
    stops = 0
    while True:
        stopped = [machine.stopped(how, where) for where in ("start", "end")]
        whole(machine)
        if stopped == [0, 0]:
            break
        assert set(stopped) <= {0, -9 if how == signal.SIGKILL else 130}, stopped
        stops += sum(status != 0 for status in stopped)
        assert stops < 60
    assert stops >= 26
    assert machine.tree() == wanted
    assert machine.processes() == [machine.up()], "no orphan"


@pytest.mark.long
def test_killed_at_the_nth_write_it_goes_on_to_the_same_end(
    machine: Machine, wanted: dict[str, str]
) -> None:
    n = kills = 1
    while machine.stopped(signal.SIGKILL, str(n)) != 0:
        whole(machine)
        kills += 1
        n += max(1, n // 5)  # a release has a thousand files whose modes are set
        assert n < 20_000
    assert kills > 10
    assert machine.tree() == wanted
    assert machine.processes() == [machine.up()], "no orphan"


def test_killed_in_the_middle_of_pip_the_next_run_ends_it_and_makes_it_whole(
    machine: Machine,
) -> None:
    argv = [sys.executable, "-S", "-E", "-m", "installer", *machine.words()]
    first = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    venv = machine.at.release("0.2.0") / "venv"
    end = time.monotonic() + 300
    while not (venv / "bin" / "pip").exists() and first.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not (venv / ".complete").exists() and not machine.at.current.exists()
    machine.run()
    assert machine.processes() == [machine.up()]


def test_what_is_not_signed_by_a_key_we_know_leaves_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    machine.key.write_text(OTHER.public.text)
    assert "鍵" in machine.run(status=1)
    assert list(machine.at.root.iterdir()) == []


def test_a_changed_byte_is_found_before_anything_runs(machine: Machine) -> None:
    data = bytearray(machine.bundle.read_bytes())
    at = data.index(b"tiny_kura.py")
    data[at + 60] ^= 1
    machine.bundle.write_bytes(data)
    machine.run(status=1)
    assert machine.at.versions() == [] and not machine.at.current.exists()
    assert not list(machine.at.root.rglob("*.whl"))


def test_a_wheel_that_the_lock_does_not_know_is_not_installed(
    machine: Machine, tmp_path: Path
) -> None:
    """M8: an impostor of a higher version, and a source, beside the one that is locked."""
    bad = {
        "wheels/kura-9.9.9-py3-none-any.whl": wheel("9.9.9"),
        "wheels/kura-9.9.9.tar.gz": b"\x1f\x8b",
    }
    machine.run(bundle=tiny(tmp_path / "more.kura.tar", more=bad))
    packages = machine.at.current / "venv" / "lib" / "python3.11" / "site-packages"
    assert [p.name for p in packages.glob("kura-*")] == ["kura-0.2.0.dist-info"]
    other = {"locks/product.lock": b"kura==0.2.0 --hash=sha256:" + b"0" * 64 + b"\n"}
    (tmp_path / "again").mkdir()
    second = Machine(tmp_path / "again")
    said = second.run(bundle=tiny(tmp_path / "wrong.kura.tar", more=other), status=1)
    assert "失敗しました" in said and "THESE PACKAGES DO NOT MATCH" in said
    assert not second.at.current.exists()


def test_an_older_or_a_newer_bundle_is_not_for_install(machine: Machine, tmp_path: Path) -> None:
    machine.run("--no-start")
    older = tiny(tmp_path / "old.kura.tar", "0.1.0")
    assert "rollback" in machine.run(bundle=older, status=1)
    newer = tiny(tmp_path / "new.kura.tar", "0.3.0")
    assert "upgrade" in machine.run(bundle=newer, status=1)
    assert machine.at.versions() == ["0.2.0"]


def test_a_dry_run_says_all_of_it_and_writes_nothing(machine: Machine) -> None:
    said = machine.run("--dry-run")
    assert said.count("→ 行う / to do") >= 13
    assert list(machine.at.root.iterdir()) == []


def test_what_does_not_start_says_why_and_goes_on_when_mended(machine: Machine) -> None:
    machine.run("--no-start")
    (machine.at.data / "broken").touch()
    assert "モデルがありません" in machine.run(status=1)
    (machine.at.data / "broken").unlink()
    machine.run()
    assert machine.up()


def test_what_systemd_puts_beside_the_units_is_no_unit(machine: Machine) -> None:
    """`systemctl enable` makes kura.target.wants/, `systemctl edit` a folder of drop-ins."""
    machine.run("--no-start")
    (machine.at.units / "kura.target.wants").mkdir()
    (machine.at.units / "kura-web.service.d").mkdir()
    machine.run()
    first = machine.up()
    assert "→" not in machine.run() and machine.up() == first


def test_a_machine_too_slow_to_say_how_it_is_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.run()
    asked = 0
    kura = Site.kura

    def slow(site: Site, *words: str, **more: float) -> subprocess.CompletedProcess[str]:
        nonlocal asked
        asked += words[0] == "status"
        if words[0] == "status" and asked < 3:
            raise subprocess.TimeoutExpired("kura status", 120)
        return kura(site, *words, **more)

    said: list[str] = []
    monkeypatch.setattr(Site, "kura", slow)
    monkeypatch.setattr(services, "TOLD_S", 0.0)
    monkeypatch.setattr(services, "by_itself", lambda site: None)  # it runs
    site = Site(machine.at, "install", "0.2.0", said.append, systemd=False)
    services.start(site)
    assert any("web: no answer yet" in line for line in said)
    assert asked == 3 and services.started(site)


def test_programs_are_compiled_while_it_is_installed(machine: Machine) -> None:
    """Kura's user may not write there: what is not compiled now is compiled at every start."""
    machine.run("--no-start")
    packages = machine.at.current / "venv" / "lib" / "python3.11" / "site-packages"
    assert list(packages.glob("__pycache__/tiny_kura.*.pyc"))


def test_changed_answers_are_applied_and_what_the_site_wrote_itself_stays(machine: Machine) -> None:
    machine.run()
    first = machine.up()
    settings = machine.at.settings
    settings.write_text(settings.read_text("utf-8") + "KURA_LOG_QUESTIONS='true'\n", "utf-8")
    machine.answers.write_text(
        ANSWERS.replace("8443", "9443") + '[reach]\nwork = ["10.1.2.3:445"]\n', "utf-8"
    )
    machine.run(verb="configure")
    text = settings.read_text("utf-8")
    assert "KURA_WEB_PORT='9443'" in text and "KURA_LOG_QUESTIONS='true'" in text
    assert text.count("KURA_WEB_PORT") == 1 and settings.stat().st_mode & 0o777 == 0o640
    assert "ip daddr 10.1.2.3/32 tcp dport 445 accept" in machine.at.firewall.read_text()
    assert "10.1.2.3/32" in (machine.at.units / "kura-work.service").read_text()
    assert machine.up() not in (0, first), "it was started anew"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('name = "-x"\n', "name"),
        ('nmae = "x"\n', "nmae"),
        ("port = 70000\n", "port"),
        ('port = "443"\n', "port"),
        ('clients = ["社内"]\n', "社内"),
        ('[reach]\ninfer = ["10.0.0.1"]\n', "infer"),
        ('[reach]\nwork = ["files.example"]\n', "files.example"),
        ('certificate = "/x.pem"\n', "key"),
        ("[settings]\ntls_key = '/x'\n", "TLS_KEY"),
        ("[settings]\nca_file = \"it's\"\n", "CA_FILE"),
        ('database_url = "postgresql+psycopg://kura@db/kura"\n', "パスワード"),
        ('database_url = "postgresql+psycopg://kura:kura@db/kura"\n', "パスワード"),
        ('database_url = "postgresql+psycopg://kura:changeme1234@db/kura"\n', "パスワード"),
        ('database_url = "mysql://x"\n', "postgresql"),
        ("name = ", "TOML"),
    ],
)  # fmt: skip
def test_a_wrong_answer_costs_one_sentence(machine: Machine, told: str, said: str) -> None:
    machine.answers.write_text(told, "utf-8")
    machine.answers.chmod(0o600)
    assert said in machine.run(status=1)
    assert list(machine.at.root.iterdir()) == []


def test_secrets_that_others_can_read_or_guess_are_refused(machine: Machine) -> None:
    """M9"""
    machine.answers.write_text(
        'database_url = "postgresql+psycopg://kura:3nt-Qx81-vvLp@db/kura"\n', "utf-8"
    )
    machine.answers.chmod(0o644)
    assert "chmod 600" in machine.run(status=1)
    machine.answers.write_text(ANSWERS, "utf-8")
    machine.run("--no-start")
    at = machine.at
    for path, mode in (
        (at.data / "secrets.key", 0o644),
        (at.settings, 0o644),
        (at.data, 0o755),
        (at.tls / "key.pem", 0o644),
    ):
        before = path.stat().st_mode & 0o777
        path.chmod(mode)
        assert f"chmod {before:o} {path}" in machine.run("--no-start", status=1)
        path.chmod(before)
    key = at.data / "secrets.key"
    good = key.read_bytes()
    for weak in (bytes(32), b"", b"secret", good[:31]):
        key.write_bytes(weak)
        assert "推測できる鍵" in machine.run("--no-start", status=1)
        assert key.read_bytes() == weak, "it is never written over"
    key.write_bytes(good)
    machine.run("--no-start")


def test_the_sites_own_certificate_is_taken_and_a_wrong_pair_is_not(
    machine: Machine, tmp_path: Path
) -> None:
    from installer.deploy import certificate

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        certificate.main(str(tmp_path / name), "kura.example.co.jp")
        (tmp_path / name / "key.pem").chmod(0o600)

    def given(cert: str, key: str) -> None:
        text = f'certificate = "{tmp_path}/{cert}/cert.pem"\nkey = "{tmp_path}/{key}/key.pem"\n'
        machine.answers.write_text(text + ANSWERS, "utf-8")

    given("a", "b")
    assert "組になりません" in machine.run("--no-start", status=1)
    given("a", "a")
    machine.run("--no-start")
    assert (machine.at.tls / "cert.pem").read_bytes() == (tmp_path / "a/cert.pem").read_bytes()
    given("b", "b")
    machine.run("--no-start", verb="configure")
    assert (machine.at.tls / "key.pem").read_bytes() == (tmp_path / "b/key.pem").read_bytes()


def at_a_terminal(machine: Machine, typed: list[str]) -> tuple[int, str]:
    """The guided screen, at a real terminal."""

    def at_it() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs behind a shell has it ignored

    ours, theirs = os.openpty()
    words = machine.words("--no-start")
    del words[words.index("--answers") : words.index("--answers") + 2]
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", "-m", "installer", *words],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=at_it,
    )
    os.close(theirs)
    said, last, until = b"", b"", time.monotonic() + 120
    try:
        with contextlib.suppress(OSError):  # EIO: the other side is gone
            while time.monotonic() < until:
                if not select.select([ours], [], [], 2)[0]:
                    # A Ctrl-C between the prompt and the read waits for a key: pressed again.
                    os.write(ours, last if last == b"\x03" else b"")
                    continue
                said += os.read(ours, 4096)
                if typed and said.rstrip(b" ").endswith((b"]:", b"]: ")):
                    last = typed.pop(0).encode()
                    os.write(ours, last)
                    said += b"|"
        return child.wait(max(1.0, until - time.monotonic())), said.decode("utf-8", "replace")
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def test_a_person_is_asked_again_until_it_can_be_used(machine: Machine) -> None:
    typed = [
        "kura.example.co.jp\n",
        "\n",
        "99999\n",
        "8443\n",
        "10.0.0.0/8 192.168.5.0/24\n",
        "\n",
        "\n",
        "y\n",
    ]
    status, said = at_a_terminal(machine, typed)
    assert status == 0, said
    assert said.count("✗ port") == 1 and "certificate" in said
    assert (
        'clients = ["10.0.0.0/8", "192.168.5.0/24"]'
        in (machine.at.etc / "install.toml").read_text()
    )
    assert "KURA_WEB_PORT='8443'" in machine.at.settings.read_text()


@pytest.mark.parametrize("typed", [["\n"] * 6 + ["n\n"], ["\n", "\x03"]])
def test_who_says_no_or_presses_ctrl_c_has_changed_nothing(
    machine: Machine, typed: list[str]
) -> None:
    status, said = at_a_terminal(machine, typed)
    assert status in (1, 130) and "Traceback" not in said
    assert list(machine.at.root.iterdir()) == []


def test_a_host_that_knows_a_key_believes_no_other(machine: Machine, tmp_path: Path) -> None:
    machine.run("--no-start")
    theirs = tmp_path / "theirs.kura.tar"
    bundle(theirs, key=OTHER)
    said = machine.run(bundle=theirs, status=1)
    assert "信頼していない鍵" in said
    wrong = " ".join(["0000"] * 16)
    words = [w for w in machine.words() if w not in ("--key", str(machine.key))]
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "installer", *words, "--fingerprint", wrong],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "指紋が違います" in done.stderr
