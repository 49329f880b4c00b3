"""The door of compose.yaml: bytes in both directions, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 10.0


class Inside:
    """A server that sends back what it gets, and counts who is connected."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.open = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self.listening.accept()
                threading.Thread(target=self._echo, args=(wire,), daemon=True).start()

    def _echo(self, wire: socket.socket) -> None:
        self.open += 1
        with wire, contextlib.suppress(OSError):
            while data := wire.recv(65536):
                if data == b"bye":
                    break
                wire.sendall(data)
        self.open -= 1


@pytest.fixture
def inside() -> Iterator[Inside]:
    found = Inside()
    yield found
    found.listening.close()


@pytest.fixture
def door(inside: Inside) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{inside.port}"]
    process = subprocess.Popen([sys.executable, "-m", "appliance.door", *argv])
    try:
        until(lambda: reached(port))
        yield port, process
    finally:
        process.kill()
        process.wait()


def reached(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def until(true: object) -> None:
    assert callable(true)
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def called(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def test_what_goes_in_comes_back_whole(door: tuple[int, subprocess.Popen[bytes]]) -> None:
    sent = os.urandom(3_000_000)
    with called(door[0]) as wire:
        threading.Thread(target=lambda: (wire.sendall(sent), wire.shutdown(1)), daemon=True).start()
        got = b"".join(iter(lambda: wire.recv(65536), b""))
    assert got == sent


def test_who_hangs_up_is_gone_inside_too(
    door: tuple[int, subprocess.Popen[bytes]], inside: Inside
) -> None:
    wires = [called(door[0]) for _ in range(20)]
    for wire in wires:
        wire.sendall(b"x")
        assert wire.recv(1) == b"x"
    assert inside.open == 20
    for wire in wires:
        wire.close()
    until(lambda: inside.open == 0)


def test_what_ends_inside_ends_outside(door: tuple[int, subprocess.Popen[bytes]]) -> None:
    with called(door[0]) as wire:
        wire.sendall(b"bye")
        assert wire.recv(1) == b""


def test_while_nobody_is_inside_it_hangs_up_and_stays(
    door: tuple[int, subprocess.Popen[bytes]], inside: Inside
) -> None:
    inside.listening.close()
    time.sleep(0.1)
    for _ in range(3):
        with called(door[0]) as wire:
            assert wire.recv(1) == b""
    assert door[1].poll() is None


def test_it_ends_when_told(door: tuple[int, subprocess.Popen[bytes]]) -> None:
    with called(door[0]) as wire:
        wire.sendall(b"x")
        assert wire.recv(1) == b"x"
        door[1].send_signal(signal.SIGTERM)
        assert door[1].wait(PATIENCE_S) == 0


def test_the_health_check_says_whether_a_process_lives(tmp_path: Path) -> None:
    def status() -> int:
        argv = [sys.executable, "-m", "appliance.operate.processes", "work"]
        return subprocess.run(argv, env=os.environ | {"KURA_DATA": str(tmp_path)}).returncode

    assert status() == 1
    from appliance import up

    with up.held(tmp_path, "work"):
        assert status() == 0
    assert status() == 1
