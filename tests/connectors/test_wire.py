"""What a connector dials, and one connection that breaks."""

from __future__ import annotations

import socket

import pytest

from appliance.errors import SourceDenied, SourceUnreachable
from appliance.types import Site
from connectors import wire


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost", "0.0.0.0", "::1", "169.254.1.1"],
)
def test_this_machine_is_dialled_only_where_it_is_named(host: str) -> None:
    with pytest.raises(SourceDenied, match="near_hosts"):
        wire.dial(host, 22, Site(near=frozenset({f"{host}:23", "other:22"})), 0.1)


def test_what_is_named_is_dialled_and_the_guard_is_told() -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        site = Site(near=frozenset({f"LOCALHOST:{port}"}), reach=told.append)
        wire.dial("localhost", port, site, 1.0).close()
    assert told == ["localhost"]


def test_a_name_is_looked_up_once_and_no_other_address_is_dialled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def rebound(host: str, port: int, *rest: object, **more: object) -> list[object]:
        asked.append(host)
        number = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    dialled: list[object] = []

    def dial(address: object, timeout: float) -> socket.socket:
        dialled.append(address)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", dial)
    with pytest.raises(SourceUnreachable):
        wire.dial("rebind.example", 22, Site(), 0.1)
    assert (asked, dialled) == (["rebind.example"], [("192.0.2.1", 22)])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *rest, **more: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 22))
            for number in ("192.0.2.1", "127.0.0.1")
        ],
    )
    with pytest.raises(SourceDenied):
        wire.dial("mixed.example", 22, Site(), 0.1)


class Thread:
    def __init__(self) -> None:
        self.alive, self.closed = True, False

    def close(self) -> None:
        self.closed = True


def test_a_line_that_broke_is_made_anew_once() -> None:
    made: list[Thread] = []

    def connect() -> Thread:
        made.append(Thread())
        return made[-1]

    def breaks(one: Thread) -> str:
        if one is made[0]:
            one.alive = False
            raise SourceUnreachable("x")
        return "answer"

    def always(one: Thread) -> str:
        one.alive = False
        raise SourceUnreachable("x")

    line = wire.Line(connect)
    with line.open():
        assert line.ask(breaks) == "answer"
        assert [one.closed for one in made] == [True, False]
        with pytest.raises(SourceUnreachable):
            line.ask(always)
        assert len(made) == 3
    assert all(one.closed for one in made)
    with pytest.raises(SourceUnreachable):
        line.ask(always)
    assert len(made) == 4, "a fresh one is not tried twice"


def test_a_transfer_is_long_as_it_must_and_a_trickle_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(wire.time, "monotonic", lambda: now)
    for per_second, ends in ((1_100, False), (900, True)):
        pulse = wire.Pulse()
        seen = []
        for _ in range(3000):  # an hour and more, in blocks every 1.5 s
            now += 1.5
            seen.append(pulse.came(int(per_second * 1.5)))
        assert (False in seen) is ends
    pulse = wire.Pulse()
    for _ in range(100):  # it is we who take our time
        now += 900
        pulse.wait()
        assert pulse.came(10)


def test_a_machine_that_went_away_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with wire.dial("127.0.0.1", port, Site(near=frozenset({f"127.0.0.1:{port}"})), 1.0) as one:
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
