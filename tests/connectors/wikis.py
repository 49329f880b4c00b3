"""Wikis on PHP's own server (Debian: mediawiki, php-sqlite3, dokuwiki), with their pages in a folder of the test."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from appliance.types import Site
from connectors.dokuwiki import DokuWikiConnector, DokuWikiSettings
from connectors.mediawiki import MediaWikiConnector, MediaWikiSettings
from tests import ports
from tests.connectors.shells import OLD_S

MEDIAWIKI, DOKUWIKI = Path("/usr/share/mediawiki"), Path("/usr/share/dokuwiki")
ADMIN, BOT = "himitsu-0451-kanrisha", "himitsu0451himitsu0451himitsu045"
MORE = """
$wgServer = 'http://' . ( $_SERVER['HTTP_HOST'] ?? '127.0.0.1' );
$wgEnableUploads = true; $wgFileExtensions = [ 'txt', 'pdf', 'png' ]; $wgUseImageMagick = false;
$wgUploadDirectory = __DIR__ . '/files'; $wgUploadPath = "$wgScriptPath/img_auth.php";
$wgJobRunRate = 0; $wgCapitalLinks = false; $wgRateLimits = []; $wgNamespacesWithSubpages[NS_MAIN] = true;
$wgNamespaceContentModels = []; $wgPasswordAttemptThrottle = false; $wgVerifyMimeType = false;
"""


def php(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        ["php", *command], env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Served:
    """PHP's server over a folder that shows a program as /w."""

    def __init__(
        self, folder: Path, program: Path, env: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        self.web = folder / "web"
        self.web.mkdir(parents=True)
        (self.web / "w").symlink_to(program)
        self.port, self.log = ports.free(), (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                "php",
                "-d",
                "opcache.enable_cli=1",
                *options,
                "-S",
                f"127.0.0.1:{self.port}",
                "-t",
                self.web,
            ],
            env={**os.environ, "PHP_CLI_SERVER_WORKERS": "2", **env},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,  # its workers end with it
        )
        for _ in range(400):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((folder / "log").read_text())

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    def take_away(self) -> None:
        (self.web / "w").unlink()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        self.log.close()


@cache
def _empty() -> Path:
    """A wiki without pages, made once."""
    folder = Path(tempfile.mkdtemp(prefix="kura-mediawiki-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "data").mkdir()
    tools = MEDIAWIKI / "maintenance"
    php(
        tools / "install.php", "--dbtype=sqlite", f"--dbpath={folder}/data", "--dbname=wiki",
        "--scriptpath=/w", "--server=http://127.0.0.1", "--lang=ja", f"--pass={ADMIN}",
        f"--confpath={folder}", "社内", "Kanri",
    )  # fmt: skip
    config = folder / "LocalSettings.php"
    settings = config.read_text().replace(f'"{folder}/data"', "__DIR__ . '/data'")
    config.write_text(settings + MORE)
    env = {"MW_CONFIG_FILE": str(config)}
    bot = ("--appid", "kura", "--grants", "basic,highvolume", "Kanri", BOT)
    php(tools / "createBotPassword.php", *bot, env=env)
    (folder / "first").write_text("メインページ")
    php(tools / "deleteBatch.php", folder / "first", env=env)
    return folder


class MediaWiki(Served):
    """A wiki that its administrator, Kanri, writes."""

    kind, missing = "mediawiki", "api.php がありません"

    def __init__(self, folder: Path, more: str = "") -> None:
        self.data = folder / "wiki"
        shutil.copytree(_empty(), self.data)
        self.config = self.data / "LocalSettings.php"
        self.config.write_text(self.config.read_text() + more)
        super().__init__(folder, MEDIAWIKI, {"MW_CONFIG_FILE": str(self.config)})
        self.url = f"http://{self.near}/w/api.php"
        self.http = httpx2.Client(timeout=60, trust_env=False)
        token = self.ask(action="query", meta="tokens", type="login")["query"]["tokens"]
        self.ask(action="login", lgname="Kanri", lgpassword=ADMIN, lgtoken=token["logintoken"])
        told = self.ask(action="query", meta="tokens")
        self.token = told["query"]["tokens"]["csrftoken"]

    def fill(self, count: int) -> None:
        """Pages 多い/0 and so on, by the wiki's own tool."""
        (folder := self.data / "texts").mkdir()
        texts = [folder / f"{n:04}.txt" for n in range(count)]
        for one in texts:
            one.write_text(f"{one.stem} 枚目。")
        tool = MEDIAWIKI / "maintenance/importTextFiles.php"
        php(tool, "--prefix", "多い/", "--rc", *texts, env={"MW_CONFIG_FILE": str(self.config)})

    def sql(self, said: str) -> None:
        with closing(sqlite3.connect(self.data / "data/wiki.sqlite")) as db, db:
            db.execute(said)

    def ask(self, files: Any = None, **query: str) -> dict[str, Any]:
        data = {**query, "format": "json", "formatversion": "2"}
        said: dict[str, Any] = self.http.post(self.url, data=data, files=files).json()
        assert "error" not in said, said
        return said

    def write(self, action: str, **query: str) -> dict[str, Any]:
        return self.ask(action=action, token=self.token, **query)

    def put(self, uri: str, text: str) -> None:
        self.write("edit", title=uri, text=text)

    def upload(self, name: str, data: bytes) -> None:
        said = self.ask(
            files={"file": (name, data, "application/octet-stream")},
            action="upload", filename=name, token=self.token, ignorewarnings="1", comment="x",
        )  # fmt: skip
        assert said["upload"]["result"] == "Success", said

    def move(self, uri: str, to: str, **more: str) -> None:
        self.write("move", **{"from": uri, "to": to, **more})

    def delete(self, uri: str) -> None:
        self.write("delete", title=uri)

    def close(self) -> None:
        self.http.close()
        super().close()

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": self.url,
            "user": "Kanri@kura",
            "password": BOT,
            "allow": ["group:営業部"],
        }

    def connector(self, **more: object) -> MediaWikiConnector:
        site = Site(near=frozenset({self.near}))
        return MediaWikiConnector(MediaWikiSettings.model_validate(self.settings | more), site)


class DokuWiki(Served):
    """A wiki whose files the test writes. ito may read all but 人事; a stranger may read nothing."""

    kind, missing = "dokuwiki", "がありません"
    ACL = "*\t@ALL\t0\n*\t@user\t1\n人事:*\t@user\t0\n"

    def __init__(self, folder: Path, acl: str = ACL, remote: int = 1) -> None:
        self.folder, self._time, conf = folder, OLD_S, folder / "conf"
        conf.mkdir(parents=True)
        for name in ("pages", "media", "meta", "cache", "attic", "index", "locks", "tmp", "log"):
            (folder / "data" / name).mkdir(parents=True)
        for name in ("media_attic", "media_meta"):
            (folder / "data" / name).mkdir()
        for one in Path("/etc/dokuwiki").iterdir():
            if one.suffix == ".conf" or one.name in ("dokuwiki.php", "license.php"):
                shutil.copyfile(one, conf / one.name)
        for name in ("mediameta.php", "plugins.php", "plugins.required.php"):
            shutil.copyfile(Path("/etc/dokuwiki") / name, conf / name)
        (conf / "local.php").write_text(
            f"<?php $conf['savedir'] = '{folder}/data'; $conf['useacl'] = 1; $conf['lang'] = 'ja';"
            f"$conf['remote'] = {remote}; $conf['remoteuser'] = ''; $conf['fnencode'] = 'utf-8';"
        )
        (conf / "acl.auth.php").write_text(acl)
        mark = hashlib.md5(BOT.encode(), usedforsecurity=False).hexdigest()
        (conf / "users.auth.php").write_text(f"ito:{mark}:Ito:ito@example.jp:user\n")
        before = folder / "before.php"
        before.write_text(
            f"<?php define('DOKU_MAIN_CONF', '{conf}/'); define('DOKU_CONF', '{conf}/');"
        )
        super().__init__(folder, DOKUWIKI, {}, ["-d", f"auto_prepend_file={before}"])

    def _at(self, uri: str) -> Path:
        media = uri.startswith("_media/")
        inner = uri.removeprefix("_media/") if media else f"{uri}.txt"
        return self.folder / "data" / ("media" if media else "pages") / inner

    def put(self, uri: str, text: str) -> None:
        path = self._at(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._time += 10
        os.utime(path, (self._time, self._time))

    def move(self, uri: str, to: str) -> None:
        self._at(to).parent.mkdir(parents=True, exist_ok=True)
        self._at(uri).rename(self._at(to))

    def delete(self, uri: str) -> None:
        self._at(uri).unlink()

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": f"http://{self.near}/w/",
            "user": "ito",
            "password": BOT,
            "allow": ["group:営業部"],
        }

    def connector(self, **more: object) -> DokuWikiConnector:
        site = Site(near=frozenset({self.near}))
        return DokuWikiConnector(DokuWikiSettings.model_validate(self.settings | more), site)
