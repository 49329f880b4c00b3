"""SFTP against OpenSSH's own server, and against one that takes passwords or answers as it likes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest
from pydantic import ValidationError

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Remove,
    Site,
    Upsert,
)
from connectors import sftp
from connectors.listing import held
from connectors.sftp import SftpConnector, SftpSettings
from tests.connectors.shells import OLD_S, Shell
from tests.faults.between import Fault, Pipe

CANARY = "himitsu-0451"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    one = Shell(tmp_path_factory.mktemp("sshd"))
    yield one
    one.close()


@pytest.fixture
def shell(server: Shell) -> Shell:
    subprocess.run(["rm", "-rf", server.root], check=True)
    server.put("規程/旅費 #1.txt", "宿泊費は12,000円。")
    server.put("規程/旧/就業規則.txt", "始業は9時。")
    server.put("案内.txt", "受付は1階。")
    server.put("~$開いている.txt", "x")
    server.put(".ssh/id.txt", "x")
    return server


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, shell: Shell) -> SftpConnector:
        return shell.connector()


def files(changes: Iterator[Change]) -> dict[str, str]:
    found = {}
    assert isinstance(changes, Generator)
    with closing(changes):
        for change in changes:  # read while the listing goes on, as a run does
            if isinstance(change, Upsert):
                with change.file.open() as stream:
                    found[change.file.uri] = stream.read().decode()
    return found


def cursor(changes: list[Change]) -> Any:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def test_everything_below_is_listed_with_whom_the_administrator_admits(shell: Shell) -> None:
    assert files(shell.connector().changes(None)) == {
        "規程/旅費 #1.txt": "宿泊費は12,000円。",
        "規程/旧/就業規則.txt": "始業は9時。",
        "案内.txt": "受付は1階。",
    }
    one = shell.connector().file("案内.txt")
    assert one.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert shell.connector(allow=[]).file("案内.txt").access == NOBODY
    assert set(files(shell.connector(exclude=["旧", "案*"]).changes(None))) == {"規程/旅費 #1.txt"}


def test_no_link_is_followed(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(CANARY)
    (shell.root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (shell.root / "links").symlink_to(tmp_path)
    (shell.root / "loop").symlink_to(shell.root)
    os.mkfifo(shell.root / "pipe.txt")
    changes = list(shell.connector().changes(None))
    assert len([c for c in changes if isinstance(c, Upsert)]) == 3
    for uri in ("link.txt", "links/secret.txt"):
        with pytest.raises(Exception, match="ありません"):
            shell.connector().file(uri)
    one = shell.connector().file("案内.txt")
    (shell.root / "案内.txt").unlink()
    (shell.root / "案内.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(SourceBusy):
        one.open()


def test_names_in_the_encodings_of_old_servers_are_read(shell: Shell) -> None:
    name = "議事録".encode("cp932") + b".txt"
    path = os.fsencode(shell.root) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"old")
    os.utime(path, (OLD_S, OLD_S))
    shell.put("か\u3099ぞう.txt", "NFD")
    found = files(shell.connector().changes(None))
    assert (found["議事録.txt"], found["がぞう.txt"]) == ("old", "NFD")
    with shell.connector().file("議事録.txt").open() as stream:
        assert stream.read() == b"old"
    shell.put("がぞう.txt", "NFC")
    changes = list(shell.connector().changes(None))
    assert ["文字コードだけ" in c.reason for c in changes if isinstance(c, Failed)] == [True]
    assert files(shell.connector().changes(None))["がぞう.txt"] == "NFC"


def test_a_change_has_another_version_and_a_move_is_read_again(shell: Shell) -> None:
    first = list(shell.connector().changes(None))
    shell.put("案内.txt", "受付は2階。")
    shell.move("規程/旧/就業規則.txt", "就業規則(改).txt")
    second = list(shell.connector().changes(cursor(first)))
    assert [(c.old_uri, c.uri) for c in second if isinstance(c, Moved)] == [
        ("規程/旧/就業規則.txt", "就業規則(改).txt")
    ]
    old, new = (
        {c.file.uri: c.file.version for c in some if isinstance(c, Upsert)}
        for some in (first, second)
    )
    assert {uri for uri in old if new.get(uri) == old[uri]} == {"規程/旅費 #1.txt"}
    assert new["就業規則(改).txt"] not in old.values(), "time and size are no proof"
    assert second[-1] == Checkpoint(cursor(second), complete=True)


def test_a_file_that_is_written_meanwhile_is_busy_not_mixed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.put("大きい.bin", b"0" * 3_000_000)
    one = shell.connector().file("大きい.bin")
    with one.open() as stream:
        assert stream.read() == b"0" * 3_000_000
    shell.put("大きい.bin", b"1" * 3_000_000)
    with pytest.raises(SourceBusy, match="書き込み中"):
        one.open()
    again, read = shell.connector().file("大きい.bin"), asyncssh.SFTPClientFile.read_parallel

    async def writes_meanwhile(self: Any, *args: Any) -> Any:
        blocks = await read(self, *args)
        shell.put("大きい.bin", b"2" * 3_000_000)
        return blocks

    monkeypatch.setattr(asyncssh.SFTPClientFile, "read_parallel", writes_meanwhile)
    with pytest.raises(SourceBusy, match="書き込み中"):
        again.open()


def test_a_fresh_file_is_read_once_its_second_is_over(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shell.root / "今.txt").write_text("今")
    slept: list[float] = []
    monkeypatch.setattr(sftp.time, "sleep", slept.append)
    shell.connector().file("今.txt").open().close()
    shell.connector().file("案内.txt").open().close()
    assert len(slept) == 1 and 0 < slept[0] <= 2


def test_a_folder_that_does_not_open_hides_no_other_and_deletes_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = cursor(list(shell.connector().changes(None)))
    scandir = asyncssh.SFTPClient.scandir

    async def closed(
        self: Any, path: bytes
    ) -> Any:  # root, as whom tests may run, opens everything
        if path.endswith("旧".encode()):
            raise asyncssh.SFTPPermissionDenied("")
        async for entry in scandir(self, path):
            yield entry

    monkeypatch.setattr(asyncssh.SFTPClient, "scandir", closed)
    shell.delete("案内.txt")
    changes = list(shell.connector().changes(since))
    assert [c.uri for c in changes if isinstance(c, Remove)] == ["案内.txt"]
    failed = [c for c in changes if isinstance(c, Failed)]
    assert [(c.uri, c.transient) for c in failed] == [("規程/旧/", False)]
    assert len([c for c in changes if isinstance(c, Upsert)]) == 1
    assert isinstance(changes[-1], Checkpoint) and not changes[-1].complete
    assert "規程/旧/就業規則.txt" in held(changes[-1].cursor)


def test_a_server_that_goes_away_meanwhile_is_told_and_then_found_again(tmp_path: Path) -> None:
    one = Shell(tmp_path)
    for number in range(4):
        one.put(f"{number}.txt", str(number))
    connector = one.connector()
    changes = connector.changes(None)
    first = next(changes)
    assert isinstance(first, Upsert)
    first.file.open().close()
    subprocess.run(
        ["pkill", "-P", str(one.process.pid)], check=True
    )  # the connection's own process
    one.stop()
    second = next(changes)
    assert isinstance(second, Upsert)
    with pytest.raises(SourceUnreachable):
        second.file.open()
    one.start()
    third = next(changes)
    assert isinstance(third, Upsert)
    with third.file.open() as stream:
        assert stream.read() == b"2"
    cast(Generator[Change], changes).close()  # now, not in the loop of another test
    one.close()


@pytest.mark.parametrize("at", [1, 3_000, 500_000, 2_000_000])
def test_a_server_that_falls_silent_is_left_in_the_middle_of_anything(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """At the sign-in, in a listing and in a file: the line stays open, and nothing comes any more."""
    monkeypatch.setattr(sftp, "CONNECT_S", 0.5 if at == 1 else 8.0)
    monkeypatch.setattr(sftp, "SILENT_S", 1.0)
    shell.put("大きい.bin", b"0" * 3_000_000)
    pipe, began = Pipe(shell.port), time.monotonic()
    try:
        site = Site(near=frozenset({f"127.0.0.1:{pipe.port}"}))
        own = shell.settings | {"port": pipe.port}
        one = SftpConnector(SftpSettings.model_validate(own), site)
        pipe.begin(Fault("timeout", at=at))
        with pytest.raises(SourceUnreachable, match="時間内に応えません"):
            files(one.changes(None))
        assert pipe.fault and pipe.fault.met and not pipe.over.is_set(), "the line is still open"
        assert time.monotonic() - began < 40, "the pipe hangs up after 60 s"
    finally:
        pipe.close()


def test_a_file_on_a_slow_line_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "SILENT_S", 0.6)
    (tmp_path / "大きい.bin").write_bytes(b"0" * 400_000)
    os.utime(tmp_path / "大きい.bin", (OLD_S, OLD_S))

    class Slow(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=str(tmp_path))
            self.line = asyncio.Lock()

        async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
            async with self.line:
                await asyncio.sleep(0.2)
                return bytes(super().read(file_obj, offset, min(size, 50_000)))  # type: ignore[call-overload]

    with answers(Passwords, sftp_factory=Slow) as port:
        began = time.monotonic()
        assert files(over(port).changes(None)) == {"大きい.bin": "0" * 400_000}
        assert time.monotonic() - began > 1.2, "twice as long as it may be silent"


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"user": "daremo"}, SourceDenied, "サインインできません"),
        ({"private_key": ""}, SourceDenied, "サインインできません"),
        ({"private_key": "", "password": CANARY}, SourceDenied, "サインインできません"),
        ({"private_key": CANARY}, SourceMisconfigured, "秘密鍵を読めません"),
        ({"host_fingerprint": ""}, SourceMisconfigured, "指紋は SHA256:.* です"),
        ({"host_fingerprint": "SHA256:" + "A" * 43}, SourceMisconfigured, "設定したものと違う"),
        ({"folder": "/ない"}, SourceMisconfigured, "/ない がありません"),
        ({"folder": "/etc/passwd"}, SourceMisconfigured, "フォルダーではありません"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"host": "nai.invalid"}, SourceUnreachable, "名前 nai.invalid が見つかりません"),
        ({"port": 1}, SourceDenied, "near_hosts"),
    ],
)
def test_a_wrong_setting_is_told(
    shell: Shell, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    one = shell.connector(**wrong)
    with pytest.raises(error, match=words) as told:
        one.check()
    said = str(told.value) + repr(one._settings) + repr(one.__dict__)
    assert CANARY not in said and "PRIVATE KEY" not in said


def test_the_fingerprint_that_is_told_is_the_one_to_enter(shell: Shell) -> None:
    with pytest.raises(SourceMisconfigured) as told:
        shell.connector(host_fingerprint="").check()
    found = str(told.value).split("指紋は ")[1].split(" です")[0]
    other = "SHA256:" + "A" * 43
    shell.connector(host_fingerprint=f"{other} {found}=").check()


def test_nothing_is_sent_to_a_server_that_is_not_known() -> None:
    with answers(Passwords) as port:
        with pytest.raises(SourceMisconfigured, match="指紋"):
            over(port, host_fingerprint="").check()
        assert Passwords.tried == []


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_a_key_may_have_a_passphrase_and_lose_its_lines(shell: Shell, form: str) -> None:
    more = {"rounds": 50} if form == "openssh" else {}
    pem = shell.key.export_private_key(form, passphrase=CANARY, **more).decode().replace("\n", " ")
    shell.connector(private_key=pem, key_password=CANARY).check()
    with pytest.raises(SourceMisconfigured, match="パスフレーズ") as told:
        shell.connector(private_key=pem, key_password="himitsu-x").check()
    assert "himitsu" not in str(told.value)


@pytest.mark.parametrize(
    "wrong", [{"host": "a b"}, {"host": "h/x"}, {"port": 0}, {"host_fingerprint": "MD5:00"}]
)
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SftpSettings.model_validate({"host": "h", "user": "ito"} | wrong)


# --- a server of our own ------------------------------------------------------------


class Passwords(asyncssh.SSHServer):
    tried: list[str] = []  # noqa: RUF012

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self.tried.append(password)
        return (username, password) == ("ito", CANARY)


KEY = asyncssh.generate_private_key("ssh-ed25519")


@contextmanager
def answers(kind: type[asyncssh.SSHServer], **more: Any) -> Iterator[int]:
    """A server in a thread. Gives its port."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=kind, server_host_keys=[KEY], **more
        )
        port.append(server.get_port())
        stop = loop.create_future()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set_result, None))
        ready.set()
        await stop
        server.close()
        await server.wait_closed()

    ends: list[Any] = []
    Passwords.tried.clear()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    yield port[0]
    ends[0]()
    thread.join()


def over(port: int, **more: object) -> SftpConnector:
    own = {
        "host": "127.0.0.1",
        "port": port,
        "user": "ito",
        "password": CANARY,
        "allow": ["everyone"],
    }
    own |= {"host_fingerprint": KEY.get_fingerprint()} | more
    return SftpConnector(
        SftpSettings.model_validate(own), Site(near=frozenset({f"127.0.0.1:{port}"}))
    )


def test_a_password_signs_in_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("甲")
    os.utime(tmp_path / "a.txt", (1_770_000_000, 1_770_000_000))

    def shown(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(tmp_path))

    with answers(Passwords, sftp_factory=shown) as port:
        assert files(over(port).changes(None)) == {"a.txt": "甲"}
        with pytest.raises(SourceDenied, match="サインイン") as told:
            over(port, password="himitsu-x").check()
        assert "himitsu-x" not in str(told.value)


def test_a_server_without_sftp_is_told() -> None:
    with answers(Passwords) as port, pytest.raises(SourceMisconfigured, match="SFTP を使えません"):
        over(port).check()


def test_a_line_that_breaks_is_no_server_without_sftp() -> None:
    class Leaves(Passwords):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._line = conn

        def session_requested(self) -> Any:
            self._line.abort()
            return True

    with answers(Leaves) as port, pytest.raises(SourceUnreachable, match="途中で切れた"):
        over(port).check()


def test_a_server_that_only_knows_old_ciphers_is_refused() -> None:
    with (
        answers(Passwords, kex_algs=["diffie-hellman-group14-sha1"]) as port,
        pytest.raises((SourceMisconfigured, SourceUnreachable)),  # as who hangs up first
    ):
        over(port).check()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n" + b"\0" * 99]
)
def test_what_is_no_server_for_ssh_is_unreachable(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def answer() -> None:
            peer, _ = listening.accept()
            with peer, suppress(OSError):
                peer.sendall(said)
                peer.settimeout(3)
                while peer.recv(1000):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceUnreachable):
            over(listening.getsockname()[1]).check()
        thread.join()
