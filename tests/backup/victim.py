"""A `kura` that dies on request: forks for each line it is given, and kills itself with SIGKILL.

A line is JSON: environment, words, and the point at which to die, before or after it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from itertools import count
from typing import Any

from appliance import cli
from appliance.backup import create, fill, restore, retention, switch, vault
from appliance.backup.read import Backup
from appliance.store import site, transfer

CREATE: dict[str, tuple[Any, str]] = {
    "swept": (vault.Vault, "sweep"),
    "a part written": (vault.Vault, "put"),
    "the database read": (create, "_database"),
    "the parts listed": (vault.Vault, "sync"),
    "published": (vault.Vault, "publish"),
    "the place noted": (site, "put"),
    "old ones gone": (retention, "tidy"),
}
RESTORE: dict[str, tuple[Any, str]] = {
    "files written": (Backup, "write_files"),
    "a table filled": (transfer, "fill"),
    "filled": (fill, "from_backup"),
    "settled": (fill, "settled"),
    "staged": (restore, "stage"),
    "on the disk": (restore, "sync"),
    "exchanged": (switch, "exchange"),
    "moved": (switch.Yard, "_move"),
    "put aside": (switch.Yard, "put_aside"),
    "switched": (switch.Yard, "switch"),
    "the database committed": (restore, "_fill"),
    "ended": (restore, "_end"),
}
POINTS = CREATE | RESTORE


def powerless() -> None:
    """Root without root's powers, to whom a folder of somebody else's is closed."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def die_at(
    owner: Any, name: str, nth: int, after: bool, by: signal.Signals = signal.SIGKILL
) -> None:
    real = getattr(owner, name)
    calls = count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == nth
        if last and not after:
            os.kill(os.getpid(), by)
        out = real(*args, **kwargs)
        if last and after:
            os.kill(os.getpid(), by)
        return out

    setattr(owner, name, deadly)


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.clear()
            os.environ.update(told["environment"])
            sys.argv = ["kura", *told["words"]]
            with open(told["log"], "a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            if told["powerless"]:
                powerless()
            if told["volume"]:
                switch.stays = lambda folder: True
            if told["point"] == "a move":
                die_at(switch.Path, "rename", told["nth"], told["after"])
            if told["point"] in POINTS:
                by = signal.SIGINT if told["by_hand"] else signal.SIGKILL
                die_at(*POINTS[told["point"]], told["nth"], told["after"], by)
            if told["point"] == "at random":
                signal.setitimer(signal.ITIMER_REAL, told["nth"] / 1000)
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            try:
                cli.main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:  # noqa: BLE001  the parent is told
                import traceback

                traceback.print_exc()
                code = 99
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
