"""The whole product once, for somebody who watches: `python -m tests.sovereignty.whole FOLDER`.

Start, sign in, take in, ask, back up, attest, stop. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

PASSWORD = "正しいパスワード99"
READY_S, LOADED_S = 400.0, 300.0
KURA = [sys.executable, "-m", "appliance.cli"]


def main(home: Path) -> None:
    data, share, out, copies = (home / name for name in ("データ", "共有", "報告", "控え"))
    for folder in (data, share, out, copies):
        folder.mkdir(mode=0o700)
    (share / "旅費規程.txt").write_text(
        "旅費規程\n\n第12条 国内出張の宿泊費は一泊一万円を上限とする。\n" * 3, "utf-8"
    )
    (share / "一覧.html").write_text("<p>精算は帰着の日から七日のうちに行う。</p>" * 5, "utf-8")
    (share / ".kura-access.toml").write_text('allow = ["everyone"]', "utf-8")
    os.environ |= {"KURA_DATA": str(data), "KURA_BACKUP_FOLDER": str(copies)}
    kura("user", "add", "ito", "--administrator", "--password-stdin", given=PASSWORD)
    kura("source", "add", "共有", "folder", "--set", f"root={share}")
    up = subprocess.Popen([*KURA, "up"], stdout=sys.stderr)
    try:
        with httpx2.Client(
            base_url="http://127.0.0.1:8400", timeout=300.0, trust_env=False
        ) as http:
            until(lambda: health(http) == "ready", READY_S)
            headers = {"Origin": "http://127.0.0.1:8400"}
            body = {"user_id": "ito", "password": PASSWORD}
            signed_in = http.post("/api/v1/session", json=body, headers=headers)
            headers["X-CSRF-Token"] = signed_in.raise_for_status().json()["csrf_token"]
            question = {"question": "国内出張の宿泊費の上限はいくらですか"}
            found: dict[str, Any] = {}

            def answered() -> bool:
                nonlocal found
                asked = http.post("/api/v1/query", json=question, headers=headers)
                found = asked.raise_for_status().json()
                return bool(found["citations"])

            until(answered, LOADED_S, pause_s=3.0)
        spaces = namespaces(up.pid)
        kura("backup", "create", "--plain")
        report = json.loads(kura("attest", "--out", out, "--json"))
        checked = json.loads(kura("attest", "--verify", report["files"][0], "--here", "--json"))
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
    said = {"answer": found["answer"], "cited": len(found["citations"])}
    backups = len(list(copies.rglob("*")))
    print(json.dumps(said | {"verified": checked, "backups": backups, "spaces": spaces}))


def namespaces(root: int) -> list[dict[str, Any]]:
    """Of each process below `kura up`: what it is, whether its network is its own, what it has there."""
    own = str(Path("/proc/self/ns/net").readlink())
    found = []
    for entry in below(root):
        try:
            status = Path(f"/proc/{entry}/status").read_text()
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            devices = Path(f"/proc/{entry}/net/dev").read_text().splitlines()[2:]
            found.append(
                {
                    "what": " ".join(w.decode() for w in words if w)[-400:],
                    "apart": str(Path(f"/proc/{entry}/ns/net").readlink()) != own,
                    "devices": [line.partition(":")[0].strip() for line in devices],
                    "seccomp": int(status.partition("Seccomp:")[2].split()[0]),
                }
            )
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def below(root: int) -> set[int]:
    """Numbers begin anew some time: a child's may be the smaller one."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(status.partition("PPid:")[2].split()[0])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kura(*words: object, given: str = "") -> str:
    done = subprocess.run(
        [*KURA, *map(str, words)], input=given, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def health(http: httpx2.Client) -> str:
    try:
        return str(http.get("/api/v1/health").json()["status"])
    except (httpx2.HTTPError, ValueError):
        return ""


def until(true: Any, seconds: float, pause_s: float = 0.5) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("too late")
        time.sleep(pause_s)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
