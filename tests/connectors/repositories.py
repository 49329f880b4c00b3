"""Git's own server behind HTTP with a password, and a repository on it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from appliance.types import Site
from connectors.git import GitConnector, GitSettings

PASSWORD = "himitsu-0451 秘密"
ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "伊藤",
    "GIT_AUTHOR_EMAIL": "ito@example.co.jp",
    "GIT_COMMITTER_NAME": "伊藤",
    "GIT_COMMITTER_EMAIL": "ito@example.co.jp",
}
FIRST_S = 1_770_000_000


class Repository:
    """A bare repository, the working folder of somebody who pushes to it, and its server."""

    kind, missing = "git", "読めるリポジトリがありません"

    def __init__(self, folder: Path) -> None:
        self.folder, self.bare, self.root = folder, folder / "規程.git", folder / "手元"
        self.asked: list[dict[str, Any]] = []
        self._time = FIRST_S
        self.git("init", "-q", "--bare", "-b", "main", self.bare, at=folder)
        self.git("init", "-q", "-b", "main", self.root, at=folder)
        self.git("remote", "add", "origin", self.bare)
        self.server = wsgi.Server(("127.0.0.1", 0), self._answer, numthreads=2)
        self.server.prepare()
        self.port = self.server.bind_addr[1]
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    @contextmanager
    def over_tls(self, pem: Path) -> Iterator[int]:
        """The same on another port."""
        server = wsgi.Server(("127.0.0.1", 0), self._answer, numthreads=2)
        server.ssl_adapter = BuiltinSSLAdapter(str(pem), str(pem))
        server.prepare()
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server.bind_addr[1]
        server.stop()
        thread.join()

    def git(self, *arguments: object, at: Path | None = None) -> str:
        when = {f"GIT_{who}_DATE": f"{self._time} +0900" for who in ("AUTHOR", "COMMITTER")}
        done = subprocess.run(
            ["git", *map(str, arguments)],
            cwd=at or self.root,
            env=ENV | when,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def _answer(self, env: dict[str, Any], start: Any) -> Iterable[bytes]:
        """`git http-backend`, as a web server calls it."""
        self.asked.append(env)
        pair = base64.b64encode(f"ito:{PASSWORD}".encode()).decode()
        if env.get("HTTP_AUTHORIZATION") != f"Basic {pair}":
            start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"')])
            return [b""]
        told = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": env["PATH_INFO"].encode("latin-1").decode(),
            "REMOTE_USER": "ito",
            "GIT_PROTOCOL": env.get("HTTP_GIT_PROTOCOL", ""),
            "HTTP_CONTENT_ENCODING": env.get("HTTP_CONTENT_ENCODING", ""),
        }
        told |= {
            name: env.get(name, "") for name in ("REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE")
        }
        body = env["wsgi.input"].read()
        told["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(
            ["git", "http-backend"], env=ENV | told, input=body, capture_output=True, check=True
        )
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        start(status, [pair for pair in headers if pair[0] != "Status"])
        return [rest]

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": f"http://{self.near}/規程.git",
            "user": "ito",
            "password": PASSWORD,
            "allow": ["group:営業部"],
        }

    def connector(self, own: Path | None = None, **more: object) -> GitConnector:
        site = Site(near=frozenset({self.near}), own=own)
        return GitConnector(GitSettings.model_validate(self.settings | more), site)

    def write(self, uri: str, text: str | bytes) -> None:
        path = self.root / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def push(self, *more: str) -> None:
        self._time += 60
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "改訂", *more)
        self.git("push", "-q", "--force", "origin", "HEAD")

    def put(self, uri: str, text: str | bytes) -> None:
        self.write(uri, text)
        self.push()

    def move(self, uri: str, to: str) -> None:
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / uri).rename(self.root / to)
        self.push()

    def delete(self, uri: str) -> None:
        (self.root / uri).unlink()
        self.push()

    def take_away(self) -> None:
        self.bare.rename(self.folder / "away.git")

    def close(self) -> None:
        self.server.stop()  # twice is once
        self.thread.join()
        shutil.rmtree(self.root, ignore_errors=True)
