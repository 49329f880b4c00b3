"""Git over HTTP from its own server, over SSH from OpenSSH's, and from a folder."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    Site,
    Upsert,
)
from connectors import git as module
from connectors import mirror
from connectors.git import GitConnector, GitSettings
from tests.connectors.repositories import FIRST_S, PASSWORD, Repository
from tests.connectors.shells import Shell
from tests.connectors.test_http import certificate

CANARY = "himitsu-0451"


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    one = Repository(tmp_path)
    one.write("規程/旅費 #1.md", "# 旅費\n\n宿泊費は12,000円。")
    one.write("規程/旧/就業規則.txt", "始業は9時。")
    one.write(".github/設定.txt", "x")
    one.write("空.txt", "")
    one.push()
    one.put("案内.txt", "受付は1階。")
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, repository: Repository, tmp_path: Path) -> GitConnector:
        return repository.connector(tmp_path / "own")


class TestContractOfAFolder(ConnectorContract):
    @pytest.fixture
    def connector(self, repository: Repository) -> GitConnector:
        return repository.connector(url=str(repository.bare))


def read(changes: Iterator[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.uri] = stream.read().decode()
    return found


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete
    return changes[-1].cursor


def versions(changes: list[Change]) -> dict[str, str]:
    return {c.file.uri: c.file.version for c in changes if isinstance(c, Upsert)}


def moved(changes: list[Change]) -> list[tuple[str, str]]:
    return [(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)]


def test_files_of_the_branch_with_the_time_of_their_last_commit(repository: Repository) -> None:
    connector = repository.connector()
    assert read(connector.changes(None)) == {
        "規程/旅費 #1.md": "# 旅費\n\n宿泊費は12,000円。",
        "規程/旧/就業規則.txt": "始業は9時。",
        "案内.txt": "受付は1階。",
        "空.txt": "",
    }
    first = datetime.fromtimestamp(FIRST_S, UTC)
    assert connector.file("案内.txt").modified_at == first + timedelta(seconds=120)
    assert connector.file("規程/旅費 #1.md").modified_at == first + timedelta(seconds=60)
    assert connector.file("案内.txt").access == (Layer(frozenset({Principal("group:営業部")})),)
    assert repository.connector(allow=[]).file("案内.txt").access == NOBODY
    some = repository.connector(include=["規程/*", "案*"], exclude=["旧"])
    assert set(read(some.changes(None))) == {"規程/旅費 #1.md", "案内.txt"}


def test_a_change_a_rename_and_a_deletion(repository: Repository, tmp_path: Path) -> None:
    connector = repository.connector(tmp_path / "own")
    first = list(connector.changes(None))
    repository.write("案内.txt", "受付は2階。")
    repository.move("規程/旧/就業規則.txt", "就業規則.txt")
    repository.delete("空.txt")
    connector = repository.connector(tmp_path / "own")  # another process
    second = list(connector.changes(cursor(first)))
    old, new = versions(first), versions(second)
    assert set(new) == {"規程/旅費 #1.md", "案内.txt", "就業規則.txt"}
    assert moved(second) == [("規程/旧/就業規則.txt", "就業規則.txt")]
    assert new["就業規則.txt"] == old["規程/旧/就業規則.txt"], "it is not read again"
    assert new["案内.txt"] != old["案内.txt"]
    times = {c.file.uri: c.file.modified_at.timestamp() for c in second if isinstance(c, Upsert)}
    assert times == {
        "案内.txt": FIRST_S + 180,
        "就業規則.txt": FIRST_S + 180,
        "規程/旅費 #1.md": FIRST_S + 60,
    }


def test_two_alike_are_not_guessed(repository: Repository) -> None:
    repository.put("控え.txt", "受付は1階。")
    first = list(repository.connector().changes(None))
    (repository.root / "控え.txt").unlink()
    repository.move("案内.txt", "案内板.txt")
    assert moved(list(repository.connector().changes(cursor(first)))) == []


def test_a_history_that_is_rewritten_is_followed(repository: Repository, tmp_path: Path) -> None:
    first = list(repository.connector(tmp_path / "own").changes(None))
    repository.write("案内.txt", "受付は3階。")
    repository.push("--amend")
    second = list(repository.connector(tmp_path / "own").changes(cursor(first)))
    assert read(iter(second))["案内.txt"] == "受付は3階。"
    repository.git("checkout", "-q", "--orphan", "新")
    repository.push()
    repository.git("push", "-q", "--force", "origin", "HEAD:main")
    third = list(repository.connector(tmp_path / "own").changes(cursor(second)))
    assert versions(third) == versions(second)
    times = {c.file.modified_at.timestamp() for c in third if isinstance(c, Upsert)}
    assert times == {FIRST_S + 240}
    repository.git("push", "-q", "--force", "origin", "HEAD~0:refs/heads/main")
    assert versions(list(repository.connector(tmp_path / "own").changes(None))) == versions(third)


def test_another_branch_and_one_that_there_is_not(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "案/2026")
    repository.put("案.txt", "まだ案です。")
    assert "案.txt" not in read(repository.connector().changes(None))
    assert "案.txt" in read(repository.connector(branch="案/2026").changes(None))
    with pytest.raises(SourceMisconfigured, match="ブランチ「無い」がありません"):
        repository.connector(branch="無い").check()


def test_what_is_not_read_is_told_and_no_link_followed(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text(CANARY)
    (repository.root / "link.txt").symlink_to(tmp_path / "secret.txt")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    repository.write("図面.pdf", pointer)
    head = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},部品")
    repository.git("add", "図面.pdf", "link.txt")
    repository.git("commit", "-q", "-m", "x")
    repository.git("push", "-q", "origin", "HEAD")
    changes = list(repository.connector().changes(None))
    failed = {c.uri: c.reason for c in changes if isinstance(c, Failed)}
    assert set(failed) == {"図面.pdf", "部品"}
    assert "LFS" in failed["図面.pdf"] and "サブモジュール" in failed["部品"]
    assert len(versions(changes)) == 4
    for uri in ("link.txt", "図面.pdf", "部品"):
        with pytest.raises(Exception, match="ありません"):
            repository.connector().file(uri)


def test_names_in_the_encodings_of_old_machines_are_read(repository: Repository) -> None:
    path = os.fsencode(repository.root) + b"/" + "議事録".encode("cp932") + b".txt"
    with open(path, "wb") as file:
        file.write("旧".encode())
    repository.put("か\u3099ぞう.txt", "NFD")
    found = read(repository.connector().changes(None))
    assert (found["議事録.txt"], found["がぞう.txt"]) == ("旧", "NFD")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": f"{CANARY}-chigau"}, SourceDenied, "権限がありません"),
        ({"password": ""}, SourceDenied, "権限がありません"),
        ({"url": "http://{near}/無い.git"}, SourceMisconfigured, "読めるリポジトリがありません"),
        ({"url": "http://git.example/x.git"}, SourceDenied, "暗号化せずにはつなぎません"),
        ({"url": "https://nai.invalid/x.git"}, SourceUnreachable, "名前 nai.invalid"),
        ({"url": "https://127.0.0.1:1/x.git"}, SourceDenied, "near_hosts"),
        ({"url": "/無い"}, SourceMisconfigured, "フォルダーがありません"),
        ({"url": "/usr"}, SourceMisconfigured, "読めるリポジトリがありません"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
    ],
)
def test_a_wrong_setting_is_told(
    repository: Repository, wrong: dict[str, str], error: type[Exception], words: str
) -> None:
    named: dict[str, Any] = {
        n: v.format(near=repository.near) if isinstance(v, str) else v for n, v in wrong.items()
    }
    one = repository.connector(**named)
    with pytest.raises(error, match=words) as told:
        one.check()
    assert CANARY not in str(told.value) + repr(one._settings) + repr(one.__dict__)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"https://ito:{CANARY}@git/x"},
        {"url": f"https://git/x?token={CANARY}"},
        {"url": "ext::sh -c id"},
        {"url": "git@git:x"},
        {"url": "ssh://-oProxyCommand=id/x"},
        {"url": "file:///x"},
        {"url": "../x"},
        {"branch": "--upload-pack=id"},
        {"branch": "a..b"},
        {"host_fingerprint": "MD5:00"},
    ],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as told:
        GitSettings.model_validate({"url": "https://git/x"} | wrong)
    assert CANARY not in str([e["msg"] for e in told.value.errors(include_input=False)])


def test_no_list_of_processes_shows_a_secret_and_no_file_keeps_it(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv: list[str] = []
    popen = subprocess.Popen

    def started(command: list[str], **more: Any) -> Any:
        argv.extend(map(str, command))
        return popen(command, **more)

    monkeypatch.setattr(subprocess, "Popen", started)
    read(repository.connector(tmp_path / "own").changes(None))
    assert argv and CANARY not in " ".join(argv)
    kept = [p for p in (tmp_path / "own").rglob("*") if p.is_file()]
    assert kept and not [p for p in kept if PASSWORD.encode() in p.read_bytes()]


def test_nothing_of_this_machine_is_run_or_asked(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a configuration of the account, nor hooks or filters of the repository."""
    home, ran = tmp_path / "home", tmp_path / "ran"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\n\tfsmonitor = "touch {ran}"\n\tsshCommand = "touch {ran}"\n'
        f'[credential]\n\thelper = "!touch {ran}; echo password=x"\n'
        f'[url "ext::touch {ran}"]\n\tinsteadOf = http\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_ASKPASS", f"touch {ran}")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "else"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    repository.put(".gitattributes", "*.txt filter=x diff=x")
    repository.put(".gitmodules", '[submodule "x"]\n\tpath = x\n\turl = ext::id\n')
    assert len(read(repository.connector().changes(None))) == 4
    with pytest.raises(SourceDenied):
        repository.connector(password="").check()
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [
        ("localhost", True, ""),
        ("localhost", False, "安全な接続"),
        ("other.example", True, "安全な接続"),
    ],
)
def test_certificates(
    repository: Repository, tmp_path: Path, name: str, trusted: bool, words: str
) -> None:
    pem = certificate(tmp_path, name)
    with repository.over_tls(pem) as port:
        settings = repository.settings | {"url": f"https://localhost:{port}/規程.git"}
        site = Site(pem if trusted else None, frozenset({f"localhost:{port}"}))
        connector = GitConnector(GitSettings.model_validate(settings), site)
        if not words:
            assert len(read(connector.changes(None))) == 4
        else:
            with pytest.raises(SourceMisconfigured, match=words):
                connector.check()


def test_a_commit_may_say_any_time(repository: Repository) -> None:
    repository.put("未来.txt", "x")
    said = repository.git("cat-file", "commit", "HEAD").replace(f"{FIRST_S + 180}", "9" * 14)
    (repository.folder / "commit").write_text(said + "\n")
    odd = repository.git(
        "hash-object", "-t", "commit", "-w", "--literally", repository.folder / "commit"
    )
    repository.git("push", "-q", "--force", "origin", f"{odd}:refs/heads/main")
    assert repository.connector().file("未来.txt").modified_at.year == 9999


def test_a_redirect_is_not_followed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(env: dict[str, Any], start: Any) -> list[bytes]:
        start("302 Found", [("Location", f"http://{repository.near}/{env['QUERY_STRING']}")])
        return [b""]

    repository.server.wsgi_app = elsewhere
    with pytest.raises((SourceMisconfigured, SourceUnreachable)):
        repository.connector().check()


def test_a_repository_beyond_the_limit_is_not_kept(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put("大.bin", os.urandom(3_000_000))
    for asked in (True, False):
        repository.asked.clear()
        with pytest.raises(SourceMisconfigured, match=r"上限 \(1 MB\)"):
            list(repository.connector(tmp_path / "own", most_mb=1).changes(None))
        fetched = [env for env in repository.asked if env["REQUEST_METHOD"] == "POST"]
        assert ("git-upload-pack" in str(fetched) and len(fetched) > 1) == asked
        assert not [p for p in (tmp_path / "own/git").glob("*") if (p / "objects").exists()]
    larger = repository.connector(tmp_path / "own", most_mb=9)
    assert len(versions(list(larger.changes(None)))) == 5


def test_a_fetch_that_was_killed_is_made_good(repository: Repository, tmp_path: Path) -> None:
    connector = repository.connector(tmp_path / "own")
    first = list(connector.changes(None))
    folder = next(p for p in (tmp_path / "own/git").iterdir() if p.is_dir())
    (folder / "refs/kura/tip.lock").write_text("")
    (folder / "shallow.lock").write_text("")
    (folder / "times.json").write_text("{")
    repository.put("案内.txt", "受付は2階。")
    assert read(connector.changes(cursor(first)))["案内.txt"] == "受付は2階。"


def test_a_copy_is_packed_anew_now_and_then(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PACKS", 1)
    list(repository.connector(tmp_path / "own").changes(None))
    repository.put("案内.txt", "受付は2階。")
    assert len(read(repository.connector(tmp_path / "own").changes(None))) == 4
    assert len(list((tmp_path / "own/git").glob("*/objects/pack/*.pack"))) == 1


def test_copies_that_nobody_looks_at_go(repository: Repository, tmp_path: Path) -> None:
    own = tmp_path / "own"
    list(repository.connector(own).changes(None))
    old = own / "git" / "old"
    old.mkdir()
    os.utime(old, (FIRST_S, FIRST_S))
    list(repository.connector(own).changes(None))
    assert not old.exists() and len([p for p in (own / "git").iterdir() if p.is_dir()]) == 1
    assert module.UNUSED_S > 86_400


def test_kuras_own_data_is_no_source(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(SourceDenied, match="Kura 自身"):
        repository.connector(tmp_path, url=str(repository.bare)).check()


def test_over_ssh_from_a_server_that_is_known(repository: Repository, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "sshd")
    try:
        settings = {
            "url": f"ssh://{getpass.getuser()}@127.0.0.1:{shell.port}{repository.bare}",
            "private_key": shell.key.export_private_key().decode(),
            "host_fingerprint": shell.host_key.get_fingerprint(),
            "allow": ["everyone"],
        }

        def over(**more: str) -> GitConnector:
            site = Site(near=frozenset({shell.near}))
            return GitConnector(GitSettings.model_validate(settings | more), site)

        assert len(read(over().changes(None))) == 4
        with pytest.raises(SourceMisconfigured, match="指紋は SHA256"):
            over(host_fingerprint="").check()
        with pytest.raises(SourceMisconfigured, match="設定したものと違う"):
            over(host_fingerprint="SHA256:" + "A" * 43).check()
        sealed = shell.key.export_private_key("pkcs8-pem", passphrase=CANARY).decode()
        over(private_key=sealed, password=CANARY).check()
        with pytest.raises(SourceMisconfigured, match="秘密鍵を読めません") as told:
            over(private_key=sealed, password="himitsu-x").check()
        assert "himitsu" not in str(told.value)
        (shell.folder / "allowed").write_text("")
        with pytest.raises(SourceDenied, match="権限がありません"):
            over().check()
    finally:
        shell.close()


def test_a_fetch_goes_on_while_enough_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SLOWEST_BYTES_S", 100.0)
    one = mirror.Mirror(
        mirror.Remote("file", "", 0, "/x"), "", mirror.Keys(), Site(), tmp_path, 1_000_000
    )
    for per_write, ends in ((2000, False), (1, True)):
        writes = f"for n in $(seq 8); do head -c {per_write} /dev/zero >> pack; sleep 0.5; done"
        with subprocess.Popen(["sh", "-c", writes], cwd=tmp_path) as process:
            if ends:
                with pytest.raises(SourceUnreachable, match="終わりません"):
                    one._watch(process, 2.0, grows=True)
                process.kill()
            else:
                one._watch(process, 2.0, grows=True)
                assert process.returncode == 0
