"""A site on which the commands of the manuals are carried out: the real processes and the real models.

Paths that a manual names lie below a folder of the test's own, the port is a free
one, and `sudo` is left out. `kura-installer install` puts a tiny bundle into a folder, without
systemd; what is served is the checkout. What cannot be carried out in a test is in `ELSEWHERE`,
each with another proof that it can be typed as it stands.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.settings import load
from installer import docs
from tests import ports
from tests.installer.bundles import KEY
from tests.installer.tiny import tiny

ROOT = docs.ROOT
MANUALS = ("導入手順書", "運用手順書", "障害対応手順書", "管理者ガイド", "利用者ガイド")
NAME = "kura.example.co.jp"
READY_S, COMMAND_S = 600, 600
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_PLACES = re.compile(
    r"(?<![\w.:/])/(?=(?:var/lib/kura|opt/kura|etc/kura-tls|etc/kura|usr/local/bin|srv|mnt|media|tmp)\b)"
)
RULES = (
    "国内出張の宿泊費の上限は、1泊につき13,000円とする。\n精算は、帰着の日から5営業日以内に行う。\n"
)


def text(manual: str) -> str:
    return (ROOT / "docs" / "ja" / f"{manual}.md").read_text("utf-8")


def fences(manual: str, *languages: str) -> Iterator[str]:
    """The fenced blocks of these languages, in order, without their margin."""
    for margin, language, body in _FENCE.findall(text(manual)):
        if language in languages:
            yield re.sub(f"^{margin}", "", body, flags=re.MULTILINE)


def commands(manual: str) -> list[str]:
    """What is to be typed, line by line, in the manual's order."""
    found = []
    for body in fences(manual, "sh", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(" ".join(line.split("  #")[0].split()))
    return found


def words(command: str) -> list[str]:
    """Without `sudo`, variables before the program, and where its output goes."""
    said = shlex.split(command.split(" > ")[0], comments=True)
    while said and (said[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", said[0])):
        del said[0]
    if said[:2] == ["python3", "kura-installer.pyz"]:
        said[:2] = ["kura-installer"]
    return [said[0].removeprefix(".venv/bin/"), *said[1:]]


# --- what a test cannot carry out ---------------------------------------------------


@cache
def helped(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        return ""
    done = subprocess.run([path, "--help"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def options(said: list[str]) -> list[str]:
    """The options that the program's own --help does not name."""
    told = helped(said[0])
    given = [w.partition("=")[0] for w in said[1:] if re.match(r"--?[a-zA-Z]", w)]
    return [o for o in given if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", told)]


def packages(said: list[str]) -> list[str]:
    """Names of packages that neither the installer nor its tests know."""
    known = (ROOT / "installer" / "preflight.sh").read_text("utf-8")
    known += (ROOT / "installer" / "test-machine.sh").read_text("utf-8") + "fonts-noto-cjk"
    return [p for p in said[2:] if not p.startswith("-") and p not in known]


def verbs(said: list[str]) -> list[str]:
    """Verbs and options of systemctl that it does not have, and units that are not ours."""
    units = [w for w in said[2:] if not w.startswith("-") and w not in UNITS]
    verb = [] if re.search(rf"^  {said[1]}\b", helped("systemctl"), re.MULTILINE) else [said[1]]
    return verb + units + options([said[0], *said[2:]])


def target(said: list[str]) -> list[str]:
    done = subprocess.run(["make", "-n", *said[1:]], cwd=ROOT, capture_output=True, check=False)
    return [] if done.returncode == 0 else said


def taken(said: list[str]) -> list[str]:
    """What `kura` would not take; nothing is run."""
    command = dict(docs.command_tree())[said[1]]
    try:
        command.make_context("kura", said[2:])
    except Exception as error:  # noqa: BLE001 - typer keeps its classes to itself
        return [repr(error)]
    return []


def installing(said: list[str]) -> list[str]:
    """A verb of kura-installer that changes the machine: what its own --help does not name."""
    verb = said[1:3] if said[1:2] == ["key"] else said[1:2]
    call = [sys.executable, "-P", "-m", "installer", *verb, "--help"]
    kept = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, capture_output=True, text=True, env=kept, check=False)
    if done.returncode:
        return [said[1]]
    given = [w.partition("=")[0] for w in said[2:] if w.startswith("-")]
    return [o for o in given if not re.search(rf"{re.escape(o)}(?![\w-])", done.stdout)]


ELSEWHERE: dict[str, Callable[[list[str]], list[str]]] = {
    "apt-get": packages,
    "systemctl": verbs,
    "journalctl": options,
    "useradd": options,
    "install": options,
    "make": target,
    "nginx": lambda said: [] if said == ["nginx", "-t"] else said,  # test_the_proxy
    "kura-installer": installing,
    "kura setup-code": taken,  # tests/cli has a machine without an administrator
    "kura directory": taken,  # tests/cli/test_directory.py has a server
    "kura migrate-db": taken,  # tests/backup/test_move.py has both databases
    f"curl https://{NAME}": lambda said: [],  # test_the_proxy
}
RUN = frozenset(
    [
        "kura",
        "kura-installer",
        "curl",
        "cd",
        "sha256sum",
        "tar",
        "mkdir",
        "chmod",
        "cp",
        "tail",
        "grep",
        "openssl",
        "df",
        "du",
    ]
)
# verbs of kura-installer that are carried out, in a folder that stands for the host
DONE = {
    ("preflight",), ("sbom",), ("install",), ("configure",), ("bundle", "verify"), ("key", "show"),
}  # fmt: skip
UNITS = ("kura.target", "kura-*", "nginx")
# anything but 0: whether a line is there, what this machine lacks
STATUS = {
    "grep": {0, 1},
    "kura-installer preflight": {0, 1},
    "kura walls": {0, 1},
    "kura alerts": {0, 1},
}


def elsewhere(command: str) -> str | None:
    said = words(command)
    if said[0] == "curl" and f"https://{NAME}" in command:
        return f"curl https://{NAME}"
    if said[0] == "kura-installer":
        return None if tuple(said[1:2]) in DONE or tuple(said[1:3]) in DONE else said[0]
    return next((k for k in (said[0], " ".join(said[:2])) if k in ELSEWHERE), None)


def certificate(folder: Path) -> None:
    """`kura.pem`, its key and `company-ca.pem`, which is the same: one that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    for file in ("kura.pem", "company-ca.pem"):
        (folder / file).write_bytes(pem)
    (folder / "kura.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "kura.key").chmod(0o600)


# --- what is carried to the site, and put there ------------------------------------------


def below(root: Path, text: str) -> str:
    """With the paths that a manual names in a folder."""
    return _PLACES.sub(f"{root}/", text)


def carry(usb: Path, root: Path) -> None:
    """What lies on the medium: a tiny bundle, signed, with the installer in it, and the manual's answers."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom installer.__main__ import main\nmain()\n"
    tiny(usb / "kura-0.1.0-amd64.kura.tar", "0.1.0", {"kura-installer.pyz": program.encode()})
    (usb / "kura.pub").write_text(KEY.public.text)
    (answers,) = (b for b in fences("導入手順書", "toml") if "clients" in b)
    (usb / "answers.toml").write_text(below(root, answers), "utf-8")


def install(command: str, here: Path, root: Path) -> str:
    """`kura-installer install` or `configure`, of a folder that stands for the host. What it said."""
    said, packed = words(command), here / "kura-installer.pyz"
    unpacked = said[1] == "install" and packed.exists()
    program = [str(packed)] if unpacked else ["-P", "-m", "installer"]
    more = ["--root", str(root), "--no-systemd", "--no-start"]
    more += ["--skip-preflight"] if said[1] == "install" else []  # the machine of a test is small
    done = subprocess.run(
        [sys.executable, *program, *said[1:], *more],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def _of_the_first() -> str:
    """The command by which 導入手順書 installs."""
    told = (c for c in commands("導入手順書") if words(c)[:2] == ["kura-installer", "install"])
    return next(c for c in told if "--dry-run" not in c)


# --- the site -----------------------------------------------------------------------


@dataclass
class Site:
    root: Path
    users: tuple[str, ...]  # that are there before the manual begins
    source: str = ""
    up: subprocess.Popen[bytes] | None = None
    restarted: bytes | None = None  # with these settings, once

    def __post_init__(self) -> None:
        self.port = ports.free()
        self.data = self.root / "var/lib/kura"
        self.here = self.root / "work"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KURA_")}
        self.environment = kept | {
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "*",
            "KURA_DATA": str(self.data),
            "KURA_MODELS": str(load().models),
            "KURA_WEB_PORT": str(self.port),
            "KURA_TIME_ZONE": "Asia/Tokyo",
        }
        for folder in ("bin", "work", "tmp", "media/usb", "usr/local/bin"):
            (self.root / folder).mkdir(parents=True)
        for name, module in (("kura", "appliance.cli"), ("kura-installer", "installer")):
            for folder in ("bin", "usr/local/bin"):
                self._program(self.root / folder / name, f"{sys.executable} -P -m {module}")
        self._program(self.root / "bin/python3", sys.executable)
        carry(self.root / "media/usb", self.root)
        (self.here / "kura.pub").write_text(KEY.public.text)  # as `key create` leaves it
        self._shelves()
        self._certificate()
        self._backups()
        for user in self.users:
            role = ["--administrator"] if user == "kobayashi" else []
            self.run(["kura", "user", "add", user, "--group", "総務部", *role], first=True)
        self.run(["kura", "user", "add", "portal", "--administrator"])
        self.environment["KURA_KEY"] = self._key()

    def _program(self, path: Path, what: str) -> None:
        path.write_text(f'#!/bin/sh\nexec {what} "$@"\n')
        path.chmod(0o755)

    def _shelves(self) -> None:
        for name in ("kitei", "soumu"):
            shelf = self.root / "srv/share" / name
            (shelf / "役員").mkdir(parents=True)
            (shelf / "規程").mkdir()
            (shelf / "旅費規程.txt").write_text(RULES, "utf-8")
            (shelf / "規程/旅費規程.txt").write_text(RULES, "utf-8")
            (shelf / "役員/報酬.txt").write_text("役員報酬は別に定める。\n", "utf-8")
            (shelf / "役員/.kura-access.toml").write_text(
                'allow = ["group:役員"]\ninherit = false\n'
            )
        asked = (
            {"question": "宿泊費の上限はいくらですか。", "documents": ["旅費規程.txt"]},
            {"question": "社員食堂の定食はいくらですか。", "unanswerable": True},
        )
        lines = [json.dumps(q | {"viewer": "sato"}, ensure_ascii=False) + "\n" for q in asked]
        (self.here / "質問.jsonl").write_text("".join(lines), "utf-8")

    def _certificate(self) -> None:
        folder = self.root / "etc/kura-tls"
        folder.mkdir(parents=True)
        certificate(folder)

    def _backups(self) -> None:
        (self.root / "mnt/backup/kura").mkdir(parents=True, mode=0o700)
        self.data.mkdir(parents=True, mode=0o700)
        self.keep_key(self.run(["kura", "backup", "key"]))

    def keep_key(self, told: str) -> None:
        """As the manual says: the secret onto paper, the recipient into the settings."""
        secret = re.search(r"^AGE-SECRET-KEY-\S+", told, re.MULTILINE)
        recipient = re.search(r'^backup_recipient = "age1\w+"', told, re.MULTILINE)
        whose = re.search(r"^site: .+", told, re.MULTILINE)
        assert secret and recipient and whose, told
        (self.root / "media/usb/key.txt").write_text(f"{secret[0]}\n{whose[0]}\n")
        folder = self.root / "mnt/backup/kura"
        file = self.data / "kura.toml"
        file.write_text(f'backup_folder = "{folder}"\n{recipient[0]}\n')
        file.chmod(0o600)

    def _key(self) -> str:
        code = (
            "from appliance import settings; from appliance.identity import keys; "
            "from appliance.store import database; "
            "e = database.connect(settings.load().database_url); "
            "s = ('query', 'search', 'documents', 'admin'); "
            "print(keys.issue(e, 'manual', 'portal', s, created_by='test')[1])"
        )
        return self.run([sys.executable, "-c", code]).strip()

    def run(self, said: list[str], *, first: bool = False) -> str:
        if first:
            self.run(["kura", "group", "set", "総務部"])
        done = subprocess.run(
            said,
            env=self.environment,
            cwd=self.here,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- what a manual does to it -----------------------------------------------------

    def carry_out(self, command: str) -> None:
        """Type it. Raises AssertionError if it does not do what a command that succeeds does."""
        said = words(command)
        if (
            said[:1] == ["systemctl"]
            and said[-1] == "kura.target"
            and said[1] in ("start", "stop", "restart")
        ):
            own = self.data / "kura.toml"
            settings = own.read_bytes() if own.exists() else b""
            if said[1] == "stop" or (said[1] == "restart" and self.restarted != settings):
                self.stop()
            if said[1] == "restart":  # again with the same: minutes, and nothing new
                self.restarted = settings
            if said[1] != "stop":
                self.start()
        elif said == ["kura", "up"]:
            self.start()
        elif said[:2] in (["kura-installer", "install"], ["kura-installer", "configure"]):
            if said[1] == "configure" and not (self.root / "opt/kura/current").exists():
                install(_of_the_first(), self.root / "media/usb", self.root)
            install(command, self.here, self.root)
            if said[1] == "install" and "--dry-run" not in said:
                self.start()
        elif (key := elsewhere(command)) is not None:
            assert ELSEWHERE[key](said) == [], command
        elif said[0] == "cd":
            self.here = Path(self.placed(said[1]))
        else:
            self._typed(command, said)

    def _typed(self, command: str, said: list[str]) -> None:
        self._prepare(said)
        line = self.placed(re.sub(r"(^|; )(sudo )?(\.venv/bin/)?", r"\1", command, count=1))
        if said[:2] == ["kura", "restore"] and "--key" not in said:
            line += f" --key {self.root / 'media/usb/key.txt'}"  # asked for at a terminal
        if said[0] == "curl":
            line = line.replace("curl ", "curl --fail-with-body ", 1)
        done = subprocess.run(
            ["bash", "-c", line],
            env=self.environment,
            cwd=self.here,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_S,
            check=False,
        )
        told = f"$ {line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        usual = STATUS.get(" ".join(said[:2])) or STATUS.get(said[0], {0})
        assert done.returncode in usual, told
        assert "Traceback" not in done.stderr, told
        if said == ["kura", "backup", "key"]:
            self.keep_key(done.stdout)

    def _prepare(self, said: list[str]) -> None:
        """What the manual's words ask for before a command."""
        if said[:2] == ["kura", "restore"]:
            self.stop()
            if "--replace" not in said:  # 空の機械へ
                self.data.rename(self.data.with_name(f"kura.old-{time.monotonic_ns()}"))
        bill = self.root / "tmp/kura-sbom.json"
        if said[:3] == ["kura-installer", "sbom", "--compare"] and not bill.exists():
            self.run(["kura-installer", "sbom", "--out", str(bill)])

    def placed(self, command: str) -> str:
        return below(self.root, command).replace("127.0.0.1:8400", f"127.0.0.1:{self.port}")

    def start(self) -> None:
        if self.up is None:
            with (self.root / "up.txt").open("ab") as told:
                self.up = subprocess.Popen(
                    [sys.executable, "-m", "appliance.cli", "up"], env=self.environment, stderr=told
                )
        deadline = time.monotonic() + READY_S
        while not self._ready():
            assert self.up.poll() is None, (self.root / "up.txt").read_text()
            assert time.monotonic() < deadline, self.run(
                ["tail", "-n", "20", str(self.data / "kura.log")]
            )
            time.sleep(2.0)  # each look costs more than a second of a processor

    def _ready(self) -> bool:
        said = ["kura", "status", "--json"]
        done = subprocess.run(said, env=self.environment, capture_output=True, check=False)
        now = json.loads(done.stdout or "{}")  # nothing where `kura up` has not made the site yet
        return now.get("web") == "ready" and now.get("infer") == "ready"

    def stop(self) -> None:
        if self.up is not None:
            self.up.terminate()
            self.up.wait(90)
            self.up = None

    def take_in(self) -> None:
        """A source whose documents are there before the manual begins."""
        root = self.root / "srv/share/kitei"
        words = ["--set", f"root={root}", "--set", 'allow=["everyone"]']
        self.run(["kura", "source", "add", self.source, "folder", *words])
        self.run(["kura", "sync", self.source])
