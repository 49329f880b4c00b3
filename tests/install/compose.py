"""`make compose-test`: the bundle as containers, on networks that lead nowhere; to docs/en/compose-test.md.

    python -m tests.install.compose --bundle kura-….kura.tar --key release.pub [--work FOLDER] [--keep]

Root, podman, podman-compose, netavark, aardvark-dns, crun, catatonit and 10 GB of disk are needed. The
base image is made by debootstrap: no registry of images is asked. All else happens in namespaces of
its own, and nothing of the machine's podman is touched. What plays the outside is a second network
namespace behind a cable, which counts every packet that comes.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.install.__main__ import ROOT, mirror

PAGE = ROOT / "docs" / "en" / "compose-test.md"
SITE = Path(__file__).resolve().parent / "site.py"
SAMPLE = ROOT / "installer" / "sample" / "files" / "総務"
BASE = "docker.io/library/debian:bookworm-slim"
DATABASE = "docker.io/library/postgres:15-bookworm"
OUTSIDE, HERE = "203.0.113.1", "203.0.113.2"
PASSWORD = secrets.token_hex(16)
HEALTHY_S = 900.0
PROJECT = "kura"
PROCESSES = ("infer", "web", "work")

CONTAINERS = """
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
[network]
network_backend = "netavark"
network_config_dir = "{work}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{work}/storage"
runroot = "/run/containers/storage"
"""
ALONE = """
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
ip link set lo up
mkdir /run/netns
ip netns add outside
ip link add cable type veth peer name cable netns outside
ip address add {here}/24 dev cable
ip link set cable up
ip route add default via {outside}
ip -n outside address add {outside}/24 dev cable
ip -n outside link set cable up
ip -n outside link set lo up
ip netns exec outside nft 'add table inet seen; add counter inet seen came; \
add chain inet seen arriving {{ type filter hook input priority 0; }}; \
add rule inet seen arriving meta l4proto {{ tcp, udp, icmp }} counter name came'
ip netns exec outside {python} -c 'import socketserver as s
s.ThreadingTCPServer(("{outside}", 80), s.BaseRequestHandler).serve_forever()' &
"$@"  # not exec: process 1 has to bury what podman leaves
"""
# What somebody who has taken a process over would try; `-I -S`: no guard of ours is loaded.
TRIES = """
import errno, json, os, socket, sys
outside, found = sys.argv[1], {}
def tried(what, do):
    try:
        do()
        found[what] = "went out"
    except OSError as error:
        found[what] = errno.errorcode.get(error.errno, str(error)) if error.errno else str(error)
def tcp(): socket.create_connection((outside, 80), 3).close()
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (outside, 53))
def ping(): socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto(b"x", (outside, 0))
tried("TCP", tcp)
tried("UDP", udp)
tried("raw socket", ping)
tried("a name (DNS)", lambda: socket.getaddrinfo("secret.example.com", 80))
def write(): open("/opt/kura/x", "w")
tried("write into the image", write)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
found |= {n: status[n].split()[0] for n in ("Uid", "CapEff", "NoNewPrivs", "Seccomp")}
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / ".kura" / "compose-test")
    parser.add_argument("--postgres", action="store_true", help="again, with compose.postgres.yaml")
    parser.add_argument("--keep", action="store_true", help="leave images and volumes")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run it as root: it makes root file systems and networks")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if given.inside:
        Test(given.bundle.resolve(), given.key.resolve(), work, given.postgres).run()
        return
    rootfs(work, "base")
    if given.postgres:
        owned(rootfs(work, "database", "postgresql-15"))
    try:
        sys.exit(subprocess.run(alone(work), check=False).returncode)
    finally:
        if not given.keep:
            for name in ("storage", "networks", "kura"):
                shutil.rmtree(work / name, ignore_errors=True)


def rootfs(work: Path, name: str, *more: str) -> Path:
    """Debian, fetched once and kept."""
    root = work / name
    if not (root / "etc" / "debian_version").is_file():
        wanted = [f"--include={','.join(more)}"] if more else []
        argv = ["debootstrap", "--variant=minbase", *wanted, "bookworm", str(root), mirror()]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return root


def owned(root: Path) -> None:
    """As in the official image: a new volume takes over whose the folder below it is."""
    told = (root / "etc" / "passwd").read_text("utf-8")
    user, group = map(int, re.findall(r"^postgres:x:(\d+):(\d+):", told, re.M)[0])
    for place in ("var/lib/postgresql/data", "run/postgresql"):
        (root / place).mkdir(parents=True, exist_ok=True)
        os.chown(root / place, user, group)


def alone(work: Path) -> list[str]:
    """This very command, in namespaces of its own."""
    script = ALONE.format(here=HERE, outside=OUTSIDE, python=sys.executable)
    again = [sys.executable, "-u", "-m", "tests.install.compose", *sys.argv[1:], "--inside"]
    return ["unshare", "-m", "-n", "-i", "-u", "-p", "-f", "--kill-child", "bash", "-c", script,
            "compose-test", *again]  # fmt: skip


class Test:
    def __init__(self, bundle: Path, key: Path, work: Path, postgres: bool) -> None:
        self.bundle, self.key, self.work, self.postgres = bundle, key, work, postgres
        self.folder = work / "kura"
        self.lines: list[str] = []
        self.failed: list[str] = []
        for name, text in {"containers": CONTAINERS, "storage": STORAGE}.items():
            (work / f"{name}.conf").write_text(text.format(work=work), "utf-8")
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(work / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
            "POSTGRES_PASSWORD": PASSWORD,
            "KURA_DATABASE_URL": f"postgresql+psycopg://kura:{PASSWORD}@db/kura",
        }

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.step("bundle verified and unpacked", self.unpack)
            self.step("base image imported", lambda: self.imported("base", BASE))
            self.step("image built, no network", self.build)
            self.site("SQLite")
            if self.postgres:
                self.step(
                    "image of PostgreSQL", lambda: self.imported("database", DATABASE, *ENTRY)
                )
                self.site("PostgreSQL", "-f", "compose.yaml", "-f", "compose.postgres.yaml")
        finally:
            took_s = time.monotonic() - began
            self.say(f"all of it: {took_s / 60:.1f} minutes")
            self.write()
        if self.failed:
            sys.exit("failed: " + "; ".join(self.failed))

    # --- steps ----------------------------------------------------------------------

    def unpack(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        argv = ["tar", "-xf", str(self.bundle), "-C", str(self.folder)]
        subprocess.run(argv, check=True)
        pyz = self.folder / "kura-installer.pyz"
        self.done("python3", pyz, "bundle", "verify", self.bundle, "--key", self.key)
        documents = self.folder / "documents" / "総務"
        shutil.copytree(SAMPLE, documents)
        (documents / ".kura-access.toml").write_text('allow = ["everyone"]\n', "utf-8")

    def imported(self, name: str, image: str, *more: str) -> None:
        with subprocess.Popen(
            ["tar", "-C", str(self.work / name), "-c", "."], stdout=subprocess.PIPE
        ) as tar:
            argv = ["podman", "import", *more, "-", image]
            subprocess.run(argv, stdin=tar.stdout, env=self.environment, check=True, stdout=2)

    def build(self) -> None:
        argv = ["podman", "build", "--network=none", "--pull=never", "-t", "localhost/kura:0.1.0"]
        self.done(*argv, "-f", "image/Containerfile", ".")
        for file in (self.folder / "image").glob("compose*.yaml"):
            shutil.copy(file, self.folder)
        size = self.done("podman", "image", "inspect", "-f", "{{.Size}}", "localhost/kura:0.1.0")
        self.say(f"image: {int(size) / 1e9:.2f} GB")

    def site(self, database: str, *words: str) -> None:
        self.say(f"--- {database}")
        up = ("podman-compose", "-p", PROJECT, *words)
        before = self.seen()
        try:
            self.step("podman-compose up", lambda: self.done(*up, "up", "-d"))
            self.step("all processes healthy", self.healthy)
            self.step("signed in, ingested, answered", self.walk)
            self.inspect(before)
        except BaseException:
            print(self.done("podman", "ps", "-a"), flush=True)
            for name in (*PROCESSES, "door"):
                print(name, self.done("podman", "logs", "--tail", "30", f"{PROJECT}_{name}_1"))
            raise
        finally:
            self.done(*up, "down", "-v")

    def healthy(self) -> None:
        end = time.monotonic() + HEALTHY_S
        for name in PROCESSES:
            argv = ["podman", "healthcheck", "run", f"{PROJECT}_{name}_1"]
            while subprocess.run(
                argv, env=self.environment, check=False, capture_output=True
            ).returncode:
                if time.monotonic() > end:
                    raise SystemExit(f"{name} is not healthy")
                time.sleep(2)

    def walk(self) -> None:
        """tests/install/site.py, whose `kura` is that of a container."""
        commands = self.work / "commands"
        commands.mkdir(exist_ok=True)
        kura = commands / "kura"
        kura.write_text(f'#!/bin/sh\nexec podman exec {PROJECT}_work_1 kura "$@"\n', "utf-8")
        kura.chmod(0o755)
        code = self.work / "code"
        code.write_text(self.done(kura, "setup-code"), "utf-8")
        path = f"{commands}:{os.environ['PATH']}"
        said = self.done(
            *("python3", SITE, code, "http://127.0.0.1:8400", "/documents/総務"), PATH=path
        )
        self.say(said.strip())
        if not said.rstrip().endswith("cited answer"):
            self.failed.append("no cited answer")

    def inspect(self, before: int) -> None:
        """Nothing came out while it worked, nothing that is tried comes out, and the cable is no dummy."""
        while_working = self.seen() - before
        for name in PROCESSES:
            found = self.tried(name)
            self.say(f"{name}: " + ", ".join(f"{k}: {v}" for k, v in found.items()))
            if "went out" in found.values() or found["Uid"] == "0" or found["CapEff"].strip("0"):
                self.failed.append(f"{name} is not walled in")
        after_tries = self.seen() - before
        control = self.tried("door")["TCP"]
        self.say(
            f"packets outside while it worked: {while_working}; after the attempts: {after_tries}; "
            f"control, TCP from the door: {control}, packets {self.seen() - before - after_tries}"
        )
        if while_working or after_tries:
            self.failed.append("packets came out")
        if control != "went out":
            self.failed.append("the control reached nothing: the test shows nothing")

    def tried(self, name: str) -> dict[str, str]:
        import json

        python = ("python3.11", "-I", "-S", "-c", TRIES, OUTSIDE)
        found: dict[str, str] = json.loads(
            self.done("podman", "exec", f"{PROJECT}_{name}_1", *python)
        )
        return found

    def seen(self) -> int:
        """Packets that reached the outside, whoever sent them."""
        said = self.done("ip", "netns", "exec", "outside", "nft", "list", "counters")
        return int(re.findall(r"packets (\d+) bytes", said)[0])

    # --- what is said ---------------------------------------------------------------

    def step(self, title: str, do: Any) -> None:
        print(f"… {title}", flush=True)
        began = time.monotonic()
        do()
        self.say(f"{title}: {time.monotonic() - began:.0f} s")

    def done(self, *argv: str | Path, **environment: str) -> str:
        done = subprocess.run(
            [str(one) for one in argv],
            env=self.environment | environment,
            cwd=self.folder if self.folder.is_dir() else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{' '.join(str(a) for a in argv[:5])}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def write(self) -> None:
        size = self.bundle.stat().st_size / 1e6
        version = self.done("podman", "--version").strip()
        text = "\n".join(self.lines)
        verdict = "Failed: " + "; ".join(self.failed) if self.failed else "All of it held."
        PAGE.write_text(
            f"""# The compose test

Written by `make compose-test` on {datetime.now(UTC):%Y-%m-%d}, on a machine with {os.cpu_count()} cores that had other work to do, by {version}. The bundle of {size:.0f} MB was unpacked, the image built of it without a network on a Debian 12 that debootstrap made, and `compose.yaml` brought up. All of it ran in a network namespace with one cable, to a second namespace ({OUTSIDE}) that counts what comes. {verdict}

```
{text}
```

`web`, `work` and `infer` were entered by a Python without Kura's guards, which tried to get out; the door, which alone is on a network with a way out, shows that the cable leads somewhere. [How to run Kura so](compose.md). What it does not show: another engine than this podman, a GPU, health checks called by a timer (there is no systemd here; they are called one by one).
""",
            "utf-8",
        )


# The official image's variables, as far as compose.yaml uses them; that image itself is out of reach here.
ENTRY = (
    "--change",
    "USER postgres",
    "--change",
    "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin",
    "--change",
    'CMD ["bash", "-c", "set -e; d=/var/lib/postgresql/data/pg; if [ ! -d $d ]; then '
    "initdb -D $d -U $POSTGRES_USER -A scram-sha-256 --pwfile=<(echo $POSTGRES_PASSWORD) $POSTGRES_INITDB_ARGS; "
    "echo host all all all scram-sha-256 >>$d/pg_hba.conf; "
    "echo CREATE DATABASE $POSTGRES_DB | postgres --single -D $d postgres; fi; "
    'exec postgres -D $d -c listen_addresses=*"]',
)


if __name__ == "__main__":
    main()
