"""Asking, through the door: cited answers for those who may read, nothing for those who may not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from appliance import build
from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.store import audit, catalog, sources
from appliance.system import Appliance
from appliance.testing.fakes import OverlapReader
from appliance.types import Reading, Words
from tests.api.conftest import FILES, HR, PUBLIC, Model, Person, take_in

SECRET = ("三千万", "KANARIA-42", "役員報酬.txt", "人事/")


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_an_answer_with_its_citation(ito: Person) -> None:
    response = ito.ask("出張の宿泊費はいくらですか")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["answer"] == "一泊一万円が上限です[1]。" and answer["ended"] == "complete"
    (citation,) = answer["citations"]
    assert citation["title"] == "旅費規程.txt" and citation["supported"]
    text = FILES["規程/旅費規程.txt"][0]
    assert text[citation["span"]["start"] : citation["span"]["end"]] == citation["quote"]
    passage = answer["passages"][0]
    assert passage["text"] == text[passage["start"] : passage["end"]]
    assert answer["conversation_id"] and answer["audit_id"] > 0


def test_the_same_answer_as_events(ito: Person) -> None:
    response = ito.http.post(
        "/api/v1/query",
        json={"question": "出張の宿泊費はいくらですか"},
        headers={"accept": "text/event-stream"},
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in response.headers["cache-control"]
    assert response.headers["x-accel-buffering"] == "no"
    got = events(response.text)
    names = [name for name, _ in got]
    assert names[:3] == ["begun", "stage", "passages"] and names[-1] == "answer"
    assert "".join(data["text"] for name, data in got if name == "piece") == got[-1][1]["answer"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_what_one_may_not_read_does_not_exist(
    machine: Appliance, model: Model, ito: Person, sato: Person, accept: str
) -> None:
    def ask(who: Person) -> str:
        response = who.http.post(
            "/api/v1/query",
            json={"question": "役員報酬はいくらですか 極秘コード"},
            headers={"accept": accept},
        )
        assert response.status_code == 200
        return str(response.text)

    allowed = ask(sato)
    assert "KANARIA-42" in allowed
    model.prompts.clear()
    refused = ask(ito)
    assert not any(word in refused for word in SECRET)
    assert not any(word in prompt.plain() for word in SECRET for prompt in model.prompts)
    log = json.dumps([r.detail for r in audit.entries(machine.engine)], ensure_ascii=False)
    assert not any(word in log for word in SECRET)


def test_no_evidence_asks_no_model(machine: Appliance, model: Model, ito: Person) -> None:
    take_in(machine, {"人事/役員報酬.txt": FILES["人事/役員報酬.txt"]})
    answer = ito.ask("役員報酬はいくらですか").json()
    assert answer["ended"] == "no_evidence" and answer["answer"] == "資料に見つかりません。"
    assert answer["citations"] == answer["passages"] == [] and model.prompts == []


def test_search_has_the_same_walls(ito: Person, sato: Person) -> None:
    def search(who: Person) -> list[str]:
        response = who.http.post("/api/v1/search", json={"question": "役員報酬 極秘コード"})
        assert response.status_code == 200
        return [p["title"] for p in response.json()["passages"]]

    assert "役員報酬.txt" in search(sato)
    assert "役員報酬.txt" not in search(ito)


def test_a_search_says_where_it_did_not_look(machine: Appliance, ito: Person, sato: Person) -> None:
    """Only to those of whom something is kept there."""
    take_in(machine, {path: file for path, file in FILES.items() if file[1] == HR})

    def searched(who: Person, route: str = "search") -> tuple[bool, bool]:
        body = {"question": "役員報酬はいくらですか"}
        found = who.http.post(f"/api/v1/{route}", json=body).json()
        return bool(found.get("passages") or found.get("considered")), found["partial"]

    assert searched(sato) == (True, False)
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    sources.hold(machine.engine, source.id, datetime(2026, 1, 1, tzinfo=UTC))
    assert searched(sato) == searched(sato, "search/candidates") == (False, True)
    assert searched(ito) == (False, False)


def test_a_search_is_read_only_where_that_is_wanted_and_never_what_is_hidden(
    machine: Appliance, ito: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = OverlapReader()
    monkeypatch.setitem(machine.retriever.__dict__, "reader", reader)
    body = {"question": "役員報酬と出張の宿泊費"}
    quick = ito.http.post("/api/v1/search", json=body).json()["passages"]
    assert reader.asked == []
    assert {p["relevance"] for p in quick} == {None}
    read = ito.http.post("/api/v1/search", json=body | {"rerank": True}).json()["passages"]
    assert all(0 < p["relevance"] <= 1 for p in read)
    assert not any(secret in repr(reader.asked) + repr(read) for secret in SECRET[:2])


def test_a_question_of_the_ui_belongs_to_a_conversation(ito: Person, model: Model) -> None:
    first = ito.ask("出張の宿泊費はいくらですか").json()
    second = ito.ask("日当は?", conversation_id=first["conversation_id"]).json()
    assert second["conversation_id"] == first["conversation_id"]
    assert first["searched"] == first["question"]
    assert (second["question"], second["searched"]) == ("日当は?", "出張の日当はいくらですか")
    listed = ito.http.get("/api/v1/conversations").json()["conversations"]
    assert [c["title"] for c in listed] == ["出張の宿泊費はいくらですか"]
    history = ito.http.get(f"/api/v1/conversations/{first['conversation_id']}").json()
    assert [m["id"] for m in history["messages"]] == [first["id"], second["id"]]
    assert [m["searched"] for m in history["messages"]] == [first["searched"], second["searched"]]
    shown = history["messages"][0]
    assert shown["citations"] == first["citations"] and shown["passages"] == first["passages"]


def test_thanks_are_kept_and_change_no_topic(ito: Person, model: Model) -> None:
    first = ito.ask("出張の宿泊費はいくらですか").json()
    told = len(model.prompts)
    here = {"conversation_id": first["conversation_id"]}
    thanks = ito.ask("ありがとうございます！", **here).json()
    assert thanks["answer"].startswith("どういたしまして")
    assert (thanks["ended"], thanks["citations"], thanks["passages"]) == ("complete", [], [])
    assert len(model.prompts) == told
    assert (
        ito.ask("海外は？", **here).json()["searched"] == "海外の場合、出張の宿泊費はいくらですか"
    )
    history = ito.http.get(f"/api/v1/conversations/{first['conversation_id']}").json()
    assert [m["answer"] for m in history["messages"]][1] == thanks["answer"]


def test_a_follow_up_begins_its_prompt_as_the_turn_before(sato: Person, model: Model) -> None:
    first = sato.ask("出張の宿泊費はいくらですか").json()
    sato.ask("役員報酬は年いくらですか", conversation_id=first["conversation_id"])
    sato.ask("役員報酬は年いくらですか")
    before, again, alone = (prompt.user.split("\n\n") for prompt in model.prompts)
    assert len(before) == len(again) == 3  # two passages and the question
    assert again[:2] == before[:2] != alone[:2]
    assert "役員報酬.txt" in alone[0] and "旅費規程.txt" in again[0]


def test_a_question_with_a_key_belongs_to_none(
    client: TestClient, key_for: Callable[..., dict[str, str]]
) -> None:
    headers = key_for("ito")
    answer = client.post("/api/v1/query", json={"question": "宿泊費は"}, headers=headers).json()
    assert answer["conversation_id"] is None
    assert client.get("/api/v1/conversations", headers=headers).json()["conversations"] == []


def test_history_forgets_what_may_no_longer_be_read(
    machine: Appliance, sato: Person, model: Model
) -> None:
    model.script = lambda prompt: iter(["年三千万円です[1]。"])
    asked = sato.ask("役員報酬は年いくらですか").json()
    assert asked["citations"][0]["title"] == "役員報酬.txt"
    kept = [p for p in asked["passages"] if p["title"] != "役員報酬.txt"]
    nobody = (HR[0], PUBLIC[0].__class__(frozenset()))
    take_in(machine, FILES | {"人事/役員報酬.txt": (FILES["人事/役員報酬.txt"][0], nobody)})
    response = sato.http.get(f"/api/v1/conversations/{asked['conversation_id']}")
    (message,) = response.json()["messages"]
    assert message["citations"] == [{"withdrawn": True, "marker": 1}]
    assert [p for p in message["passages"] if not p["withdrawn"]] == kept
    assert "KANARIA" not in response.text and "役員報酬.txt" not in response.text
    # Nor is it what the next question is understood from.
    model.prompts.clear()
    sato.ask("宿泊費はいくらですか", conversation_id=asked["conversation_id"])
    assert not any("三千万" in prompt.plain() for prompt in model.prompts)


def test_where_the_reader_pointed_is_kept_and_forgotten_with_the_source(
    machine: Appliance, sato: Person, model: Model
) -> None:
    reading = replace(machine.retriever, reader=OverlapReader(sure=4.0))
    answerer = replace(machine.answerer, retriever=reading, caution=0.4)
    object.__setattr__(machine, "answerer", answerer)
    model.script = lambda prompt: iter(["分かりかねます。"])
    asked = sato.ask("役員報酬は年いくらですか").json()
    assert asked["ended"] == "no_evidence"
    (near, *_) = asked["near"]
    assert (near["title"], near["quote"]) == ("役員報酬.txt", "役員報酬は年三千万円とする。")
    assert near["span"] == {"start": 0, "end": len(near["quote"])} and near["modified_at"]
    url = f"/api/v1/conversations/{asked['conversation_id']}"
    (message,) = sato.http.get(url).json()["messages"]
    assert message["near"] == asked["near"]
    nobody = (HR[0], PUBLIC[0].__class__(frozenset()))
    take_in(machine, FILES | {"人事/役員報酬.txt": (FILES["人事/役員報酬.txt"][0], nobody)})
    response = sato.http.get(url)
    assert "三千万" not in response.text and "役員報酬.txt" not in response.text


def test_a_document_that_says_otherwise_is_shown_to_who_may_read_it(
    machine: Appliance, ito: Person, sato: Person, model: Model
) -> None:
    take_in(
        machine,
        FILES
        | {
            "規程/制服.txt": ("制服代は三千円とする。", PUBLIC),
            "人事/制服案.txt": ("制服代は四千円とする。", HR),
        },
    )
    reading = replace(machine.retriever, reader=OverlapReader())
    answerer = replace(machine.answerer, retriever=reading, caution=0.4)
    object.__setattr__(machine, "answerer", answerer)
    model.script = lambda prompt: iter(["三千円"])
    mine, theirs = (p.ask("制服代はいくらですか").json() for p in (sato, ito))
    for answer, wanted in ((mine, ["制服.txt", "制服案.txt"]), (theirs, [])):
        assert answer["ended"] == "complete"
        assert sorted(c["title"] for c in answer["conflicts"]) == wanted
    assert all(c["quote"].startswith("制服代は") and c["modified_at"] for c in mine["conflicts"])
    url = f"/api/v1/conversations/{mine['conversation_id']}"
    (message,) = sato.http.get(url).json()["messages"]
    assert message["conflicts"] == mine["conflicts"]


@pytest.mark.parametrize(
    ("decides", "stands"), [("", "三万円です[1]。"), ("never", "三万円です[1]。"), ("always", "")]
)
def test_whether_the_reader_decides_is_a_setting(
    machine: Appliance, ito: Person, model: Model, decides: str, stands: str
) -> None:
    own = replace(machine.settings, reader_decides=decides)
    reading = replace(machine.retriever, reader=OverlapReader(sure=4.0))
    answerer = replace(machine.answerer, retriever=reading, caution=build.caution(own, own=False))
    object.__setattr__(machine, "answerer", answerer)
    model.script = lambda prompt: iter(["三万円です[1]。"])
    answer = ito.ask("宿泊費はいくらですか").json()
    assert answer["answer"] == (stands or "資料に見つかりません。")


@pytest.mark.parametrize(
    ("llm", "decides", "wary"),
    [
        ("", "", True),
        ("kura-270m", "", True),  # named, and the same
        ("qwen-1b", "", False),
        ("qwen-1b", "always", True),
        ("", "never", False),
    ],
)
def test_small_models_of_ours_are_not_trusted_alone(llm: str, decides: str, wary: bool) -> None:
    own = Settings(llm=llm, reader_decides=decides)
    assert bool(build.caution(own, own=True)) is wary
    with pytest.raises(SettingsError, match="always"):
        Settings(reader_decides="sometimes")


class Literal(OverlapReader):
    """Sure of 「九千円」 where the text speaks of the country that is asked for."""

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        self.asked.append((question, tuple(texts)))
        return [self._one(question, text) for text in texts]

    def _one(self, question: str, text: str) -> Reading:
        at = text.find("九千円")
        there = at >= 0 and all(word in text for word in ("国内", "海外") if word in question)
        start = at if at >= 0 else len(text) - 3
        return Reading(0.99 if there else 0.02, (Words(start, start + 3, 8.0 if there else -8.0),))


def test_what_a_document_says_it_is_about_holds_for_all_of_it(
    machine: Appliance, ito: Person, model: Model
) -> None:
    others = "".join(
        f"第{n}条（手続）\n{n}の手続は、所属の長が帳票で行う。控えは総務課が五年の間、鍵のかかる棚に保管し、"
        "求めがあれば本人に示す。様式の変更は、部長の承認を得て、月の初めに行う。\n"
        for n in range(3, 12)
    )
    rules = (
        "第1条（目的）\nこの規程は、社員が国内に出張する場合の旅費について定める。\n"
        "第2条（範囲）\n本規程は、海外に出張する場合には適用しない。別に定める。\n"
        f"{others}第12条（宿泊費）\n宿泊費は、一泊九千円を上限とする。\n"
    )
    take_in(machine, FILES | {"規程/出張.txt": (rules, PUBLIC)})
    reader = Literal()
    answerer = replace(
        machine.answerer, retriever=replace(machine.retriever, reader=reader), caution=0.4
    )
    object.__setattr__(machine, "answerer", answerer)
    model.script = lambda prompt: iter(["九千円[1]"])
    home = ito.ask("国内に出張する場合の宿泊費の上限は").json()
    assert home["answer"] == "九千円[1]"
    assert "九千円" in home["citations"][0]["quote"]
    again = [text for _, texts in reader.asked for text in texts if "国内" in text.split("\n")[0]]
    assert again and not any("海外" in text.split("\n")[0] for text in again)
    abroad = ito.ask("海外に出張する場合の宿泊費の上限は").json()
    assert abroad["ended"] == "no_evidence"


class Distracted(OverlapReader):
    """Sure of 「三月」 where nothing but the question is said."""

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        self.asked.append((question, tuple(texts)))
        sure = "会議" not in question
        at = [text.find("三月") for text in texts]
        return [
            Reading(0.99 if sure and n >= 0 else 0.02, (Words(n, n + 2, 8.0 if sure else -8.0),))
            for n in at
        ]


def test_why_somebody_asks_makes_no_answer_unsure(
    machine: Appliance, ito: Person, model: Model
) -> None:
    take_in(machine, FILES | {"審査.txt": ("更新の審査は、三月に受ける。", PUBLIC)})
    reader = Distracted()
    retriever = replace(machine.retriever, reader=reader)
    answerer = replace(machine.answerer, retriever=retriever, caution=0.4)
    object.__setattr__(machine, "answerer", answerer)
    model.script = lambda prompt: iter(["三月[1]"])
    told = ito.ask("更新の審査はいつですか？会議と重ならないか見たい").json()
    assert told["answer"] == "三月[1]"
    assert [q for q, _ in reader.asked][:2] == [
        "更新の審査はいつですか？会議と重ならないか見たい",
        "更新の審査はいつですか？",
    ]
    reader.asked.clear()
    assert ito.ask("会議のときの審査はいつですか？").json()["ended"] == "no_evidence"
    assert {q for q, _ in reader.asked} == {"会議のときの審査はいつですか？"}


def test_rating_ones_own_answer_only(ito: Person, sato: Person) -> None:
    answer = ito.ask("宿泊費はいくらですか").json()
    url = f"/api/v1/answers/{answer['id']}/rating"
    assert sato.http.put(url, json={"value": -1}).status_code == 404
    assert ito.http.put(url, json={"value": 1, "comment": "助かった"}).status_code == 200
    history = ito.http.get(f"/api/v1/conversations/{answer['conversation_id']}").json()
    assert history["messages"][0]["rating"] == 1
    assert ito.http.put(url, json={"value": 2}).status_code == 422


def test_every_answer_is_recorded_and_the_question_is_not(machine: Appliance, ito: Person) -> None:
    answer = ito.ask("宿泊費はいくらですか").json()
    answered, asked = audit.entries(machine.engine, actor="user:ito", limit=2)
    assert (asked.action, answered.action) == ("ask", "answer")
    assert answered.sequence == answer["audit_id"]
    assert answered.detail["documents"] and answered.detail["ended"] == "complete"
    assert "question" not in asked.detail and len(asked.detail["sha256"]) == 64
    assert audit.verify(machine.engine) is None


def test_what_cannot_be_recorded_is_not_done(
    machine: Appliance, model: Model, ito: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.errors import NotReady

    def full(*_: object) -> int:
        raise NotReady("ディスクに空きがないため、書き込めません。", 30.0)

    monkeypatch.setattr(audit, "record", full)
    assert ito.ask("宿泊費はいくらですか").status_code == 503
    assert model.prompts == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": ""},
        {"question": "x" * 4001},
        {"question": 1},
        {"question": "x", "unknown": 1},
        {"question": "x", "conversation_id": "x" * 65},
    ],
)
def test_a_bad_question_is_one_clear_message(ito: Person, body: dict[str, Any]) -> None:
    response = ito.http.post("/api/v1/query", json=body)
    assert response.status_code == 422
    told = response.json()
    assert told["error"] == "BadRequest" and told["message"] and told["message_en"]
    assert told["request_id"] == response.headers["x-request-id"]
    assert told["detail"] and "\n" not in told["detail"]


# --- versions -----------------------------------------------------------------------

OLD = "旅費規程 2019年4月1日改定。出張の宿泊費は一泊九千円を上限とする。申請は五日以内に行う。"
NEW = "旅費規程 2024年4月1日改定。出張の宿泊費は一泊一万円を上限とする。申請は三日以内に行う。"
AHEAD = "旅費規程 2099年4月1日改定。出張の宿泊費は一泊二万円を上限とする。申請は一日以内に行う。"


def shown(who: Person, question: str) -> list[tuple[str, str | None]]:
    """Title and standing of each passage, in alphabetical order."""
    passages = who.ask(question).json()["passages"]
    return sorted((p["title"], p["version"] and p["version"]["standing"]) for p in passages)


def test_the_version_in_force_answers_unless_another_is_asked_for(
    machine: Appliance, ito: Person, model: Model
) -> None:
    files = {f"規程/旅費規程_{y}.txt": t for y, t in ((2019, OLD), (2024, NEW), (2099, AHEAD))}
    take_in(machine, {uri: (text, PUBLIC) for uri, text in files.items()})
    assert shown(ito, "出張の宿泊費の上限はいくらですか") == [("旅費規程_2024.txt", None)]
    assert shown(ito, "改定前の出張の宿泊費の上限はいくらですか") == [
        ("旅費規程_2019.txt", "superseded"),
        ("旅費規程_2024.txt", None),
    ]
    assert "旅費規程_2019.txt（旧版）" in model.prompts[-1].plain()
    assert shown(ito, "今後の出張の宿泊費の上限はいくらですか") == [
        ("旅費規程_2024.txt", None),
        ("旅費規程_2099.txt", "ahead"),
    ]
    passages = ito.ask("2019年の出張の宿泊費は").json()["passages"]
    (old,) = (p["version"] for p in passages if p["title"] == "旅費規程_2019.txt")
    assert (old["title"], old["since"], old["own"]) == (
        "旅費規程_2024.txt",
        "2024-04-01",
        "2019-04-01",
    )


def test_nobody_learns_of_a_version_he_may_not_read(
    machine: Appliance, ito: Person, sato: Person
) -> None:
    take_in(
        machine,
        {"旧/旅費規程_2019.txt": (OLD, PUBLIC), "人事/旅費規程_2024.txt": (NEW, HR)},
    )
    assert shown(ito, "出張の宿泊費の上限はいくらですか") == [("旅費規程_2019.txt", None)]
    assert shown(sato, "出張の宿泊費の上限はいくらですか") == [("旅費規程_2024.txt", None)]
    assert "2024" not in ito.ask("以前の出張の宿泊費の上限は").text.replace("modified", "")


def test_an_old_answer_says_that_its_source_was_superseded(machine: Appliance, ito: Person) -> None:
    take_in(machine, {"規程/旅費規程_2019.txt": (OLD, PUBLIC)})
    answer = ito.ask("出張の宿泊費の上限はいくらですか").json()
    assert answer["passages"][0]["version"] is None
    take_in(
        machine,
        {"規程/旅費規程_2019.txt": (OLD, PUBLIC), "規程/旅費規程_2024.txt": (NEW, PUBLIC)},
    )
    history = ito.http.get(f"/api/v1/conversations/{answer['conversation_id']}").json()
    (passage,) = history["messages"][0]["passages"]
    assert passage["version"]["title"] == "旅費規程_2024.txt"


def test_forms_that_were_filled_in_are_no_versions(machine: Appliance, ito: Person) -> None:
    form = "見積書 {}様 出張の宿泊費は一泊{}円を上限とする。2024年{}月1日発行。"
    take_in(
        machine,
        {
            f"営業/{name}/見積書.txt": (form.format(name, n * 1000, n), PUBLIC)
            for n, name in enumerate(("青嶺", "白樺", "房州"), 5)
        },
    )
    assert len(shown(ito, "出張の宿泊費の上限はいくらですか")) == 3


def test_a_new_name_makes_it_a_version(machine: Appliance, ito: Person) -> None:
    take_in(machine, {"a/別の文書.txt": (OLD, PUBLIC), "旅費規程_2024.txt": (NEW, PUBLIC)})
    assert len(shown(ito, "出張の宿泊費の上限はいくらですか")) == 2
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source is not None and source.id
    catalog.move(
        machine.engine, source.id, "a/別の文書.txt", "旅費規程.txt", "旅費規程.txt", PUBLIC
    )
    machine.follower.catch_up()
    assert shown(ito, "出張の宿泊費の上限はいくらですか") == [("旅費規程_2024.txt", None)]
