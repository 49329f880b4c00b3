"""`kura` in a process of its own for each command, forked from one that has loaded it: what it does is
what `python -m appliance.cli` does, without a second of imports.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

LOADED = (
    "appliance.backup.create, appliance.backup.restore, appliance.build, appliance.ingest.schedule"
)
STREAMS = {"in": os.O_RDONLY, "out": os.O_WRONLY, "err": os.O_WRONLY}  # by number


def kura(
    *words: str | Path, env: Mapping[str, str], given: str = "", timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Its output and how it ended. Raises TimeoutError; the command is killed then."""
    with tempfile.TemporaryDirectory(prefix="kura-forked-") as folder:
        files = {name: str(Path(folder) / name) for name in STREAMS}
        for name, path in files.items():
            Path(path).write_text(given if name == "in" else "", "utf-8")
        argv = [str(word) for word in words]
        asked = {"words": argv, "environment": dict(env), "files": files, "timeout_s": timeout_s}
        server = _server()
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        if status == -signal.SIGALRM:
            raise TimeoutError(f"kura {' '.join(argv)}")
        out, err = (Path(files[name]).read_text("utf-8", "replace") for name in ("out", "err"))
        return subprocess.CompletedProcess(["kura", *argv], status, out, err)


@cache
def _server() -> subprocess.Popen[str]:
    """One for all tests of this process; it ends with it."""
    argv = [sys.executable, __file__]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KURA_")}
    server = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept
    )
    assert server.stdin and server.stdout

    def end() -> None:
        assert server.stdin and server.stdout
        server.stdin.close()
        server.wait(30)
        server.stdout.close()

    atexit.register(end)
    return server


def _serve() -> None:
    exec(f"import {LOADED}")
    for line in sys.stdin:
        asked = json.loads(line)
        if (child := os.fork()) == 0:
            _be(asked)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be(asked: dict[str, Any]) -> None:
    from appliance import cli

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, asked["timeout_s"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["kura", *asked["words"]]
    for number, (name, how) in enumerate(STREAMS.items()):
        handle = os.open(asked["files"][name], how)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  with nothing read ahead
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  as Python itself would
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
