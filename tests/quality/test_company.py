"""The sample company on a real machine: who sees what, and what survives a kill.

How well the model answers is measured by `make quality`, not asserted here.
"""

from __future__ import annotations

import os
import signal
import time
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
    """Search, stream, answer, citations and history of everybody who may not read it."""
    assert any(
        p["uri"] == question.uri
        for p in company.person(question.viewer).search(question.question, 20)
    ), "who may read it must find it, or this test shows nothing"
    assert leaks(company, question) == []


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
