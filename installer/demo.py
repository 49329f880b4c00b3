"""`make demo`: the sample company, three processes, one question with its cited answer.

Runs in the installed environment. With --check it stops again, and succeeds
only if the answer came from the right document with a right citation.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from appliance import settings as configuration
from appliance.settings import Settings
from installer.progress import Step, clock, say

READY_S, LOADED_S, ANSWER_S = 120, 1800, 120


def main() -> None:
    parser = argparse.ArgumentParser(description="Start Kura with the sample company.")
    parser.add_argument("--check", action="store_true", help="ask, judge the answer, stop")
    check = parser.parse_args().check
    began = time.monotonic()
    settings = configuration.load()
    if _listening(settings.web_host, settings.web_port):
        if not check:
            _taken(settings)
        settings = configuration.load(web_port=_free_port())
    _company(settings)
    right = False
    end_with_terminal()
    with _running(settings) as up, _browser(settings) as http:
        _wait_ready(http, up)
        _wait_loaded(settings, up)
        right = _ask(http)
        say(
            f"準備完了 {clock(time.monotonic() - began)}",
            f"Ready {clock(time.monotonic() - began)}",
        )
        if not check:
            _welcome(settings)
            up.wait()
    if check and not right:
        raise SystemExit(1)


def _company(settings: Settings) -> None:
    from appliance import build
    from installer.sample import load

    step = Step("見本の会社 (蔵前精機株式会社) を登録", "the sample company", 3)
    engine = build.store(settings)
    load.load(engine, settings)
    engine.dispose()
    step.done()


def end_with_terminal() -> None:
    """Whoever closes the terminal ends it as with Ctrl-C."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.default_int_handler)


@contextmanager
def _running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`kura up`, stopped at the end whatever happens."""
    environment = os.environ | {
        "KURA_DATA": str(settings.data),
        "KURA_WEB_PORT": str(settings.web_port),
    }
    up = subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "up"],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield up
    except KeyboardInterrupt:
        say("\n停止しています…", "\nStopping…")
    finally:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)  # the stop itself is not to be interrupted
        up.terminate()
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            up.kill()
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _browser(settings: Settings) -> Iterator[httpx2.Client]:
    base = f"http://{settings.web_host}:{settings.web_port}"
    with httpx2.Client(base_url=base, timeout=ANSWER_S, trust_env=False) as http:
        yield http


def _wait_ready(http: httpx2.Client, up: subprocess.Popen[bytes]) -> None:
    step = Step("3 つのプロセスを起動", "three processes", 15)
    while step.elapsed_s < READY_S:
        _alive(up, step)
        try:
            if http.get("/api/v1/health", timeout=2).json()["status"] == "ready":
                step.done()
                return
        except (httpx2.HTTPError, ValueError, KeyError):
            pass  # not up yet; the clock decides
        step.at()
        time.sleep(0.1)
    _give_up(step)


def _wait_loaded(settings: Settings, up: subprocess.Popen[bytes]) -> None:
    """Until the sample's folder has been taken in whole, and is known again after hours switched off."""
    from appliance.store import catalog, database, sources
    from installer.sample import load

    engine = database.connect(settings.database_url)
    total = sum(
        1 for p in (load.HERE / "files").rglob("*") if p.is_file() and not p.name.startswith(".")
    )
    step = Step(f"文書 {total} 件を取り込み", f"{total} documents", total * 2.0)
    while step.elapsed_s < LOADED_S:
        _alive(up, step)
        source = sources.by_name(engine, load.SOURCE)
        if source and source.cursor and not source.withheld:
            counts = catalog.counts(engine)
            engine.dispose()
            time.sleep(2 * settings.follow_seconds)  # the indexes are that far behind at most
            step.done(f"{counts.ready}/{total}, {counts.chunks} chunks")
            return
        done = catalog.counts(engine).documents
        step.at(done / total, f"{done}/{total}")
        time.sleep(0.3)
    _give_up(step)


def _ask(http: httpx2.Client) -> bool:
    """Sign in as a colleague and ask. True if document, place and words are the right ones."""
    from installer.sample import load

    wanted = load.question()
    settings = configuration.load()
    password = load.passwords(settings)[wanted.viewer]
    step = Step("見本の質問", "the sample question", 10)
    session = _post(http, "/session", {"user_id": wanted.viewer, "password": password}, "")
    answer = _post(http, "/query", {"question": wanted.question}, session["csrf_token"])
    step.done()
    print(f"\n    問  {wanted.question}\n    答  {answer['answer']}")
    for citation in answer["citations"]:
        sign = "✓" if citation["supported"] else "?"
        place = f"{citation['title']} {citation['label']}"
        print(f"    [{citation['marker']}] {sign} {place} — 「{citation['quote']}」")
    print(flush=True)
    right = wanted.answer in answer["answer"] and any(
        c["supported"]
        and c["uri"] == wanted.uri
        and wanted.label in c["label"]
        and wanted.answer in c["quote"]
        for c in answer["citations"]
    )
    if not right:
        say(
            f"  ✗ {wanted.uri} {wanted.label} の「{wanted.answer}」が引用されるはずでした。",
            f"  ✗ expected {wanted.answer} cited from {wanted.uri} {wanted.label}.",
        )
    return right


def _post(http: httpx2.Client, path: str, body: dict[str, Any], token: str) -> Any:
    headers = {"Origin": str(http.base_url).rstrip("/"), "X-CSRF-Token": token}
    response = http.post(f"/api/v1{path}", json=body, headers=headers)
    if response.is_error:
        print(f"\n  {path}: {response.status_code} {response.text[:500]}")
        raise SystemExit(1)
    return response.json()


def _welcome(settings: Settings) -> None:
    from installer.sample import load

    say(f"\n  画面        {settings.origin}", f"\n  address     {settings.origin}")
    say("  サインイン   (ユーザー ID / パスワード)", "  sign in with (user id / password)")
    company = load.company()["accounts"]
    for user, password in load.passwords(settings).items():
        row = company[user]
        print(f"    {user:<10} {password}   {row['name']} {row['title']} [{row['role']}]")
    say("\n  Ctrl-C で停止します。", "\n  Ctrl-C stops it.")


def _alive(up: subprocess.Popen[bytes], step: Step) -> None:
    if up.poll() is not None:
        step.failed()
        say(
            f"kura up が終了しました（{up.returncode}）。ログ: {configuration.load().log}",
            f"kura up ended ({up.returncode}). Log: {configuration.load().log}",
        )
        raise SystemExit(1)


def _give_up(step: Step) -> None:
    step.failed()
    say(
        f"時間がかかりすぎています。ログ: {configuration.load().log}",
        f"This takes too long. Log: {configuration.load().log}",
    )
    raise SystemExit(1)


def _taken(settings: Settings) -> None:
    say(
        f"{settings.web_host}:{settings.web_port} は使用中です。すでに起動している make demo を"
        "止めるか、KURA_WEB_PORT=8401 make demo のように別のポートを指定してください。",
        f"{settings.web_host}:{settings.web_port} is in use. Stop the make demo that is already "
        "running, or name another port: KURA_WEB_PORT=8401 make demo",
    )
    raise SystemExit(1)


def _listening(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
