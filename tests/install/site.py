"""What an administrator does on the new host: signs in (by the code, the first time), adds a folder, asks.

Runs inside, by the host's own Python, with what is installed there and nothing else.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from typing import Any

PATIENCE_S = 900.0  # with a machine that has much else to do, which says "try again in a moment"
PASSWORD = "kuramae-seiki-2026-soumu"
QUESTION = "安否確認のメールが来たら何時間以内に返さないとだめ？"
ANSWER, DOCUMENT = "6時間", "防災マニュアル"


CERTIFICATE = "/etc/kura/tls/cert.pem"


def main(log: str, base: str, path: str) -> None:
    code = re.search(r"([A-Z2-9]{4}-){3}[A-Z2-9]{4}", open(log, encoding="utf-8").read())  # noqa: SIM115
    folder = path.rpartition("/")[2]
    host = Host(base)
    if code:
        first = {"code": code[0], "user_id": "admin", "display_name": "情報システム部"}
        host.post("/setup", first | {"password": PASSWORD})
    host.post("/session", {"user_id": "admin", "password": PASSWORD})
    told("signed in")
    if f'"{folder}"' not in kura("source", "list", "--json"):
        kura("source", "add", folder, "folder", "--set", f"root={path}")
    kura("sync", folder, "--timeout", "900")
    told(kura("status"))
    state = json.loads(kura("status", "--json"))
    assert state["documents"] and not state["problems"], state
    end = time.monotonic() + 60
    while not (found := host.post("/search", {"question": QUESTION}))["passages"]:
        assert time.monotonic() < end, found
        time.sleep(0.5)
    answer = host.post("/query", {"question": QUESTION})
    told(f"問 {QUESTION}\n答 {answer['answer']}")
    cited = [c for c in answer["citations"] if c["supported"] and DOCUMENT in c["title"]]
    for one in cited:
        told(f"[{one['marker']}] {one['title']} {one['label']} 「{one['quote']}」")
    assert ANSWER in answer["answer"] and any(ANSWER in c["quote"] for c in cited), answer
    told("cited answer")


class Host:
    def __init__(self, base: str) -> None:
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        handlers: list[urllib.request.BaseHandler] = [cookies, urllib.request.ProxyHandler({})]
        if base.startswith("https:"):
            context = ssl.create_default_context(cafile=CERTIFICATE)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._open = urllib.request.build_opener(*handlers)
        self._base, self._token = base, ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "X-CSRF-Token": self._token}
        data = json.dumps(body).encode()
        asked = urllib.request.Request(f"{self._base}/api/v1{path}", data, headers)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self._open.open(asked, timeout=600) as said:
                    answer = json.load(said)
                break
            except urllib.error.HTTPError as error:
                body = error.read().decode()
                if error.code != 503 or time.monotonic() > end:
                    raise SystemExit(f"{path}: {error.code} {body}") from None
                told(f"{path}: 503 {json.loads(body)['error']}, again")
                time.sleep(float(error.headers.get("Retry-After") or 5))
            except urllib.error.URLError as error:  # it has just been started
                if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > end:
                    raise
                time.sleep(1)
        self._token = answer.get("csrf_token", self._token)
        return answer


def kura(*words: str) -> str:
    done = subprocess.run(["kura", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kura {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def told(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
