"""The sample company on a real machine: who sees what, and what survives a kill.

How well the model answers is measured by `make quality`, not asserted here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.quality.__main__ import leaks
from tests.quality.company import API, Company, Golden, golden

pytestmark = [pytest.mark.models, pytest.mark.slow]

ALL = golden()
CLOSED = [q for q in ALL if q.denied]


def test_every_document_was_taken_in(company: Company) -> None:
    status = company.person("kobayashi").http.get(f"{API}/admin/status").json()
    assert status["problems"] == 0
    assert status["documents"] >= 60


def test_the_right_document_is_found(company: Company) -> None:
    """A floor far below what is measured: this catches a broken leg, not a bad day."""
    asked = [q for q in ALL if q.uri]
    found = sum(
        any(p["uri"] == q.uri for p in company.person(q.viewer).search(q.question)) for q in asked
    )
    assert found >= 0.85 * len(asked)


@pytest.mark.parametrize("question", CLOSED, ids=lambda q: q.id)
def test_nothing_of_a_closed_document_reaches_others(company: Company, question: Golden) -> None:
    """Search of everybody who may not read it; stream, answer, citations and history of one."""
    assert any(
        p["uri"] == question.uri
        for p in company.person(question.viewer).search(question.question, 20)
    ), "who may read it must find it, or this test shows nothing"
    assert leaks(company, question, 1) == []


def test_the_log_holds_no_question_and_no_text(company: Company) -> None:
    secret = "役員賞与の原資は合計いくらと記録されていますか"
    company.person("takahashi").ask(secret)
    log = company.settings.log.read_text("utf-8")
    assert secret not in log
    for question in CLOSED:
        assert question.question not in log
        assert question.answer not in log or len(question.answer) < 4


def test_a_withdrawn_group_is_withdrawn_at_once(company: Company) -> None:
    question = next(q for q in CLOSED if q.uri.startswith("営業/価格"))
    admin, reader = company.person("kobayashi"), company.person(question.viewer)
    assert any(p["uri"] == question.uri for p in reader.search(question.question, 20))
    groups: dict[str, Any] = {
        name: admin.http.get(f"{API}/admin/groups/{name}").json()["members"]
        for name in ("eigyo", "keiri")
    }
    headers = {"X-CSRF-Token": admin.token, "Origin": str(admin.http.base_url).rstrip("/")}

    def put(name: str, members: list[str]) -> None:
        path = f"{API}/admin/groups/{name}"
        admin.http.put(path, json={"members": members}, headers=headers).raise_for_status()

    try:
        for name, members in groups.items():
            put(name, [m for m in members if m != f"user:{question.viewer}"])
        assert not any(p["uri"] == question.uri for p in reader.search(question.question, 20))
    finally:
        for name, members in groups.items():
            put(name, members)


def test_an_evaluation_is_compared_with_the_last_one(company: Company, tmp_path: Path) -> None:
    """`kura eval` as an administrator runs it: asked with the viewers' rights."""
    closed = next(q for q in CLOSED if q.denied)
    asked = tmp_path / "質問.jsonl"
    rows = [
        {"question": closed.question, "viewer": viewer, "documents": [closed.uri], "slice": viewer}
        for viewer in (closed.viewer, closed.denied[0])
    ]
    rows.append({"question": "社員食堂の日替わり定食はいくらですか", "unanswerable": True})
    asked.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")

    def evaluate(*more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "KURA_DATA": str(company.settings.data),
            "KURA_MODELS": str(company.settings.models),
            "KURA_WEB_PORT": str(company.settings.web_port),
        }
        command = [sys.executable, "-m", "appliance.cli", "eval", str(asked), *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = evaluate("--json")
    made = json.loads(done.stdout)
    assert (done.returncode, made["questions"], made["unanswerable"]) == (0, 3, 1)
    assert made["slices"][closed.viewer]["recall@10"] == 1.0
    assert made["slices"][closed.denied[0]]["recall@10"] == 0.0
    (kept,) = (company.settings.data / "evaluations").glob("*.json")
    better = json.loads(kept.read_text("utf-8"))
    better["intervals"]["recall@10"] = [0.9, 1.0]
    kept.write_text(json.dumps(better), "utf-8")
    worse = evaluate()
    assert (worse.returncode, "--accept" in worse.stdout) == (3, True)
    assert "前回 0.500" in worse.stdout
    assert evaluate("--accept").returncode == 0


def test_infer_killed_in_mid_answer_is_told_and_comes_back(company: Company) -> None:
    person = company.person("ito")
    question = "KP-2200 の保守で行うことを、順番にすべて詳しく説明してください。"
    seen = []
    killed = company.pid("infer")
    for name, data in person.events(question):
        seen.append((name, data))
        if name == "stage" and data["name"] == "answering":
            os.kill(killed, signal.SIGKILL)
    name, data = seen[-1]
    assert name == "error"
    assert data["error"] == "ModelUnreachable"
    assert data["message"]
    for _ in range(240):  # as a reader would
        again = person.post("/query", {"question": "国内出張の宿泊費の上限はいくらですか。"})
        if again.status_code != 503:
            break
        time.sleep(0.5)
    assert again.json()["answer"]


@pytest.mark.parametrize("process", ["work", "web"])
def test_a_killed_process_comes_back_with_everything(company: Company, process: str) -> None:
    before = company.person("sato").search("育児休業の期間")
    company.person("sato").ask("育児休業の期間は？")
    killed = company.pid(process)
    os.kill(killed, signal.SIGKILL)
    http = company.person("sato").http
    company.wait_replaced(process, killed)
    assert company.person("sato").search("育児休業の期間") == before
    latest = http.get(f"{API}/conversations").json()["conversations"][0]
    assert latest["title"]
