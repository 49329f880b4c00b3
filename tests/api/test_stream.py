"""An answer while it is written, over a real socket: hang-ups, sign-outs, a model that dies."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from appliance.api import create_app, running
from appliance.errors import ModelBusy, ModelUnreachable
from appliance.identity import accounts, keys
from appliance.store import audit, conversations, people
from appliance.store import keys as key_rows
from appliance.system import Appliance
from appliance.types import Prompt
from tests.api.conftest import ORIGIN, PASSWORD, Model, Person, Server

SSE = {"accept": "text/event-stream"}
QUESTION = {"question": "出張の宿泊費はいくらですか"}


class Slow:
    """A model that says one character every 20 ms for ever, and notes when it was stopped."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.stopped_at = 0.0

    def __call__(self, prompt: Prompt) -> Iterator[str]:
        try:
            for n in range(3000):
                self.began.set()
                yield chr(0x4E00 + n)  # never the same twice: a loop would be cut
                time.sleep(0.02)
        finally:
            self.stopped_at = time.monotonic()

    def waited_s(self, since: float) -> float:
        deadline = since + 5
        while not self.stopped_at and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.stopped_at, "the model was never stopped"
        return self.stopped_at - since


@pytest.fixture
def slow(model: Model) -> Slow:
    model.script = made = Slow()
    return made


@contextmanager
def signed_in(server: Server, user_id: str = "ito") -> Iterator[httpx2.Client]:
    with server.client() as http:
        body = {"user_id": user_id, "password": PASSWORD}
        response = http.post("/api/v1/session", json=body)
        http.headers["x-csrf-token"] = response.json()["csrf_token"]
        yield http


def lines(response: httpx2.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def history(machine: Appliance, user_id: str = "ito") -> list[conversations.Message]:
    """What the one conversation holds."""
    viewer = people.viewer(machine.engine, user_id)
    (one,) = conversations.conversations(machine.engine, viewer)
    return list(conversations.get(machine.engine, viewer, one.id).messages)


def until(true: Callable[[], bool], patience_s: float = 10.0) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


@contextmanager
def asked(http: httpx2.Client, **more: Any) -> Iterator[dict[str, Any]]:
    """The question is being answered, and its reader listens; what `begun` said."""
    with http.stream("POST", "/api/v1/query", json=QUESTION | more, headers=SSE) as response:
        got = lines(response)
        name, begun = next(got)
        assert name == "begun"
        while next(got)[0] != "piece":
            pass
        yield begun


def shown(http: Any, begun: dict[str, Any]) -> list[dict[str, Any]]:
    response = http.get(f"/api/v1/conversations/{begun['conversation_id']}")
    return list(response.json()["messages"])


def test_who_hangs_up_with_a_key_stops_the_model_within_a_second(
    machine: Appliance,
    server: Server,
    model: Model,
    key_for: Callable[..., dict[str, str]],
) -> None:
    with signed_in(server) as http:
        before = http.post("/api/v1/query", json=QUESTION).json()
    model.script = slow = Slow()
    body = QUESTION | {"conversation_id": before["conversation_id"]}
    with server.client(headers=key_for("ito")) as http:
        with http.stream("POST", "/api/v1/query", json=body, headers=SSE) as response:
            got = lines(response)
            while next(got)[0] != "piece":
                pass
        left = time.monotonic()
    assert slow.waited_s(left) < 1.0
    until(lambda: history(machine)[-1].ended == "cancelled")
    assert history(machine)[-1].answer.startswith("一")


def test_hanging_up_on_json_stops_the_model_too(server: Server, slow: Slow) -> None:
    with signed_in(server) as http:
        cookie, token = http.cookies["kura_session"], http.headers["x-csrf-token"]
        host = server.url.removeprefix("http://")
    body = json.dumps(QUESTION).encode()
    head = (
        f"POST /api/v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Cookie: kura_session={cookie}\r\nX-CSRF-Token: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    name, port = host.split(":")
    with socket.create_connection((name, int(port))) as wire:
        wire.sendall(head.encode() + body)
        assert slow.began.wait(5)
    assert slow.waited_s(time.monotonic()) < 1.0


@dataclass
class Held:
    """A model that says half of its answer, and the rest when it may."""

    go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, prompt: Prompt) -> Iterator[str]:
        yield "一泊一万円"
        while not self.go_on.wait(0.02):
            yield ""
        yield "が上限です[1]。"


@pytest.fixture
def held(model: Model) -> Iterator[Held]:
    model.script = made = Held()
    yield made
    made.go_on.set()


def test_who_leaves_in_mid_answer_finds_the_question_and_then_the_answer(
    server: Server, held: Held
) -> None:
    with signed_in(server) as http, signed_in(server, "sato") as other:
        with asked(http) as begun:
            pass
        for _ in range(2):  # long enough for a hang-up to be noticed
            (message,) = shown(http, begun)
            assert (message["question"], message["ended"]) == (QUESTION["question"], "answering")
            assert message["id"] == begun["id"]
            time.sleep(running.LOOK_S * 2)
        (listed,) = http.get("/api/v1/conversations").json()["conversations"]
        assert listed["id"] == begun["conversation_id"]
        assert other.get("/api/v1/conversations").json()["conversations"] == []
        held.go_on.set()
        until(lambda: shown(http, begun)[0]["ended"] == "complete")
        (message,) = shown(http, begun)
        assert message["answer"] == "一泊一万円が上限です[1]。"
        assert [c["title"] for c in message["citations"]] == ["旅費規程.txt"]
        assert message["audit_id"] > 0


def test_a_follow_up_stands_in_its_conversation_while_it_is_answered(
    server: Server, held: Held, model: Model
) -> None:
    held.go_on.set()
    with signed_in(server) as http:
        first = http.post("/api/v1/query", json=QUESTION).json()
        held.go_on.clear()
        with asked(http, conversation_id=first["conversation_id"]) as begun:
            assert begun["conversation_id"] == first["conversation_id"]
            assert [m["ended"] for m in shown(http, begun)] == ["complete", "answering"]
        held.go_on.set()
        until(lambda: [m["ended"] for m in shown(http, begun)] == ["complete"] * 2)


@pytest.mark.parametrize("listening", [True, False])
def test_an_answer_is_stopped_from_another_tab(server: Server, slow: Slow, listening: bool) -> None:
    with signed_in(server) as http, signed_in(server) as tab, signed_in(server, "sato") as other:
        with asked(http) as begun:
            stop = f"/api/v1/conversations/{begun['conversation_id']}/stop"
            assert other.post(stop).status_code == 404
            assert not slow.stopped_at
            if listening:
                assert tab.post(stop).status_code == 200
                assert slow.waited_s(time.monotonic()) < 1.0
        assert tab.post(stop).status_code == 200  # once more is no mistake
        assert slow.waited_s(time.monotonic()) < 1.0
        until(lambda: shown(http, begun)[0]["ended"] == "cancelled")
        (message,) = shown(http, begun)
        assert message["answer"].startswith("一")


def test_a_conversation_that_is_deleted_is_answered_no_further(
    machine: Appliance, server: Server, slow: Slow
) -> None:
    with signed_in(server) as http:
        with asked(http) as begun:
            pass
        url = f"/api/v1/conversations/{begun['conversation_id']}"
        assert http.delete(url).status_code == 200
        assert slow.waited_s(time.monotonic()) < 1.0
        assert http.get("/api/v1/conversations").json()["conversations"] == []
    until(lambda: "answer" not in {thread.name for thread in threading.enumerate()})
    (once,) = [r.detail for r in audit.entries(machine.engine) if r.action == "answer"]
    assert once["ended"] == "cancelled" and once["error"] is None


def test_who_left_and_signed_out_is_answered_no_further(server: Server, slow: Slow) -> None:
    with signed_in(server) as http:
        with asked(http):
            pass
        assert http.delete("/api/v1/session").status_code == 200
    assert slow.waited_s(time.monotonic()) < 1.5


@pytest.fixture
def second(machine: Appliance, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Somebody at another process of the same site."""
    monkeypatch.setattr(running, "PULSE_S", 0.1)
    monkeypatch.setattr(running, "ALIVE_FOR_S", 1.0)
    with TestClient(create_app(machine), base_url=ORIGIN) as client:
        ito = Person(client, "ito")
        ito.sign_in()
        yield ito


def test_another_process_knows_that_it_is_being_answered(
    server: Server, held: Held, second: Person
) -> None:
    with signed_in(server) as http, asked(http) as begun:
        for _ in range(2):
            (message,) = shown(second.http, begun)
            assert (message["question"], message["ended"]) == (QUESTION["question"], "answering")
            time.sleep(running.ALIVE_FOR_S * 0.75)
        held.go_on.set()
        until(lambda: shown(second.http, begun)[0]["ended"] == "complete")
        assert shown(second.http, begun) == shown(http, begun)


@pytest.mark.parametrize("how", ["stopped", "deleted"])
def test_another_process_ends_it(
    server: Server, slow: Slow, second: Person, machine: Appliance, how: str
) -> None:
    with signed_in(server) as http, asked(http) as begun:
        url = f"/api/v1/conversations/{begun['conversation_id']}"
        done = second.http.post(f"{url}/stop") if how == "stopped" else second.http.delete(url)
        assert done.status_code == 200, done.text
        assert slow.waited_s(time.monotonic()) < 2.0
    if how == "stopped":
        until(lambda: shown(second.http, begun)[0]["ended"] == "cancelled")
        assert shown(second.http, begun)[0]["answer"].startswith("一")
    else:
        assert second.http.get("/api/v1/conversations").json()["conversations"] == []


def test_a_question_whose_process_dies_says_so_and_can_be_asked_again(
    server: Server, held: Held, model: Model, second: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "keep_alive", lambda _engine, ids, _s: {*ids})  # no more
    with signed_in(server) as http, asked(http) as begun:
        until(lambda: shown(second.http, begun)[0]["ended"] == "cut")
        (message,) = shown(second.http, begun)
        assert message["question"] == QUESTION["question"]
        assert message["answer"] == "" and message["citations"] == []
        model.script = None
        again = second.ask(message["question"], conversation_id=begun["conversation_id"])
        assert again.json()["ended"] == "complete"
        assert [m["ended"] for m in shown(second.http, begun)] == ["cut", "complete"]


@pytest.mark.parametrize("how", ["sign out", "disable", "password", "leave group", "revoke key"])
def test_a_stream_ends_with_the_right_to_it(
    machine: Appliance, server: Server, slow: Slow, how: str
) -> None:
    key, secret = keys.issue(machine.engine, "k", "ito", ["query"], created_by="admin")
    with signed_in(server) as http, signed_in(server) as other:
        if how == "revoke key":
            other.headers.pop("x-csrf-token")
            other.cookies.clear()
            other.headers["authorization"] = f"Bearer {secret}"
        with other.stream("POST", "/api/v1/query", json=QUESTION, headers=SSE) as response:
            got = lines(response)
            while next(got)[0] != "piece":
                pass
            match how:
                case "sign out":
                    http.cookies.clear()
                    http.cookies.set("kura_session", other.cookies["kura_session"])
                    http.headers["x-csrf-token"] = other.headers["x-csrf-token"]
                    assert http.delete("/api/v1/session").status_code == 200
                case "disable":
                    people.update(machine.engine, "ito", disabled=True)
                case "password":
                    body = {"current": PASSWORD, "new": "あたらしいパスワード1"}
                    assert http.put("/api/v1/session/password", json=body).status_code == 200
                case "leave group":
                    accounts.set_group(machine.engine, "総務部", [])
                case _:
                    key_rows.revoke(machine.engine, key.id)
            ended = time.monotonic()
            *_, (name, told) = got
        assert slow.waited_s(ended) < 1.0
    assert (name, told["error"]) == ("error", "NotSignedIn")


def test_a_model_that_dies_leaves_a_message_and_the_next_question_works(
    machine: Appliance, server: Server, model: Model
) -> None:
    def dies(prompt: Prompt) -> Iterator[str]:
        yield "一泊一万円が上限で、"
        raise ModelUnreachable("the model server ended in mid-answer")

    model.script = dies
    with signed_in(server) as http:
        with http.stream("POST", "/api/v1/query", json=QUESTION, headers=SSE) as response:
            got = list(lines(response))
        name, told = got[-1]
        assert (name, told["error"]) == ("error", "ModelUnreachable")
        assert "もう一度" in told["message"] and told["message_en"] and told["retry_after_s"] > 0
        (message,) = history(machine)
        assert message.answer.startswith("一泊一万円") and message.ended == "cut"
        assert message.id == told["id"]

        model.script = None
        body = QUESTION | {"conversation_id": told["conversation_id"]}
        answer = http.post("/api/v1/query", json=body).json()
        assert answer["ended"] == "complete"
    assert len(history(machine)) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(ModelUnreachable("x"), 503), (ModelBusy("x"), 429), (KeyError("x"), 500)]
)
def test_a_model_that_says_nothing_is_a_status_with_a_sentence(
    server: Server, model: Model, error: Exception, status: int
) -> None:
    def dead(prompt: Prompt) -> Iterator[str]:
        raise error
        yield ""

    model.script = dead
    with signed_in(server) as http:
        response = http.post("/api/v1/query", json=QUESTION)
    assert response.status_code == status
    assert "Traceback" not in response.text and response.json()["message"]
    assert ("retry-after" in response.headers) == (status != 500)


def test_one_person_cannot_take_every_seat(server: Server, slow: Slow) -> None:
    done = threading.Event()

    def hold(http: httpx2.Client) -> None:
        with http.stream("POST", "/api/v1/query", json=QUESTION, headers=SSE) as response:
            for _ in lines(response):
                if done.is_set():
                    return

    with signed_in(server) as ito, signed_in(server, "sato") as sato:
        holding = [threading.Thread(target=hold, args=(ito,)) for _ in range(4)]
        for thread in holding:
            thread.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with ito.stream("POST", "/api/v1/query", json=QUESTION, headers=SSE) as refused:
                status, headers = refused.status_code, refused.headers
            if status == 429:
                break
        assert status == 429 and int(headers["retry-after"]) >= 1
        with sato.stream("POST", "/api/v1/query", json=QUESTION, headers=SSE) as response:
            assert response.status_code == 200
        done.set()
        for thread in holding:
            thread.join(10)


def test_the_openai_client_gets_answers_and_citations(
    server: Server, key_for: Callable[..., dict[str, str]], model: Model
) -> None:
    import openai

    secret = key_for("ito")["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0) as client:
        assert [m.id for m in client.models.list()] == ["kura"]
        asked: list[Any] = [{"role": "user", "content": QUESTION["question"]}]
        whole = client.chat.completions.create(model="kura", messages=asked)
        assert whole.choices[0].message.content == "一泊一万円が上限です[1]。"
        extra = whole.model_extra["kura"]  # type: ignore[index]
        assert extra["citations"][0]["title"] == "旅費規程.txt" and extra["audit_id"] > 0
        stream = client.chat.completions.create(model="kura", messages=asked, stream=True)
        chunks = list(stream)
        said = "".join(c.choices[0].delta.content or "" for c in chunks)
        assert said == "一泊一万円が上限です[1]。"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert chunks[-1].model_extra["kura"]["citations"] == extra["citations"]  # type: ignore[index]
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError, match="サインイン"):
        stranger.models.list()


# --- requests that do not come to an end ---------------------------------------------


def raw(server: Server, data: bytes, patience_s: float = 5.0) -> bytes:
    """All that comes until the server hangs up. Raises TimeoutError if it waits for more."""
    name, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((name, int(port)), timeout=patience_s) as wire:
        wire.sendall(data)
        got = b""
        while part := wire.recv(65536):
            got += part
        return got


def test_half_a_request_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.api import serve, wall

    monkeypatch.setattr(serve, "HEAD_PATIENCE_S", 0.3)
    monkeypatch.setattr(wall, "BODY_PATIENCE_S", 0.3)
    assert raw(server, b"") == b""
    assert raw(server, b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ") == b""
    body = (
        b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b'Connection: close\r\nContent-Length: 100\r\n\r\n{"user'
    )
    assert raw(server, body).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "length", [b"-1", b"1e9", b"99999999999999999999", b"10\r\nContent-Length: 20"]
)
def test_odd_lengths_are_refused(server: Server, length: bytes) -> None:
    head = (
        b"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: " + length + b"\r\n\r\n"
    )
    assert raw(server, head + b"--x--\r\n")[9:10] == b"4"
