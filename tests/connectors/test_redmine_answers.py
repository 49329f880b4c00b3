"""A Redmine that answers as it likes: with 10,000 issues, half a page, or the same page again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from appliance.errors import (
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import NOBODY, AccessChanged, Checkpoint, Failed, Site, Upsert
from connectors.redmine import RedmineConnector, RedmineSettings
from tests.connectors.test_http import Answer, Server, says
from tests.connectors.test_redmine import cursor, look, readers, versions


class Fake:
    """Just what the connector asks of a project with many issues."""

    def __init__(self, server: Server, issues: int) -> None:
        self.server, self.key = server, "kagi"
        self.issues = {n: self._issue(n) for n in range(1, issues + 1)}
        self.wrong: dict[str, Answer] = {}
        self.pages, self.slept = 0, list[float]()
        paths = ("users/current", "users", "projects", "custom_fields", "projects/1/memberships",
                 "roles/3", "issues", "projects/1")  # fmt: skip
        server.answers = {f"/{path}.json": self._answer(path) for path in paths}

    def _issue(self, number: int) -> dict[str, object]:
        return {
            "id": number,
            "project": {"id": 1, "name": "棚"},
            "tracker": {"id": 1, "name": "バグ"},
            "status": {"id": 1, "name": "新規"},
            "author": {"id": 5, "name": "伊藤"},
            "subject": f"件 {number}",
            "description": "説明",
            "is_private": False,
            "updated_on": "2026-04-01T00:00:00Z",
            "attachments": [],
        }

    def _answer(self, path: str) -> Answer:
        def answer(handler: object) -> None:
            said = handler.headers  # type: ignore[attr-defined]
            assert said["X-Redmine-API-Key"] == self.key
            query = urlsplit(str(handler.path)).query  # type: ignore[attr-defined]
            asked = {name: values[0] for name, values in parse_qs(query).items()}
            if path in self.wrong:
                self.wrong[path](handler)  # type: ignore[arg-type]
                return
            body = json.dumps(self._said(path, asked)).encode()
            says(body, content_type="application/json")(handler)  # type: ignore[arg-type]

        return answer

    def _said(self, path: str, asked: dict[str, str]) -> object:
        user = {"id": 5, "login": "ito", "admin": False}
        project = {
            "id": 1, "identifier": "tana", "name": "棚", "is_public": False,
            "trackers": [{"id": 1, "name": "バグ"}], "enabled_modules": [{"name": "issue_tracking"}],
        }  # fmt: skip
        match path:
            case "users/current":
                return {"user": {"id": 1, "login": "admin", "admin": True}}
            case "users":
                return {"users": [user], "total_count": 1}
            case "projects":
                return {"projects": [project], "total_count": 1}
            case "projects/1":
                return {"project": project}
            case "projects/1/memberships":
                one = {"id": 1, "user": {"id": 5}, "roles": [{"id": 3}]}
                return {"memberships": [one], "total_count": 1}
            case "roles/3":
                return {"role": {"permissions": ["view_issues"], "issues_visibility": "all"}}
            case "issues":
                return self._listed(asked)
        return {"custom_fields": []}

    def _listed(self, asked: dict[str, str]) -> object:
        """As Redmine does: never more than 100, by the filters that it knows."""
        assert asked["project_id"] == "1" and asked["status_id"] == "*"
        assert asked["subproject_id"] == "!*" and int(asked["limit"]) <= 100
        found = list(self.issues.values())
        if asked["sort"] == "updated_on:desc":
            newest = max(found, key=lambda row: str(row["updated_on"]), default=None)
            return {"issues": [newest] if newest else [], "total_count": len(found)}
        self.pages += 1
        if since := asked.get("updated_on"):
            assert re.fullmatch(r">=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", since)
            found = [row for row in found if str(row["updated_on"]) >= since[2:]]
        first = int(asked["issue_id"].removeprefix(">="))
        found = sorted(
            (r for r in found if int(str(r["id"])) >= first), key=lambda r: int(str(r["id"]))
        )
        return {"issues": found[:100], "total_count": len(found)}

    def connector(self) -> RedmineConnector:
        settings = RedmineSettings(url=self.server.url, api_key=self.key, wiki=False, files=False)
        connector = RedmineConnector(settings, Site(near=frozenset({self.server.near})))
        connector._api.http.sleep = self.slept.append
        return connector


@pytest.fixture
def answering() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.mark.long
def test_ten_thousand_issues_are_asked_for_by_the_hundred_and_then_hardly(
    answering: Server,
) -> None:
    fake = Fake(answering, 10_000)
    first = look(fake.connector())
    assert len(versions(first)) == 10_000 and fake.pages == 100
    fake.pages = 0
    fake.issues[77] |= {"subject": "新しい件名", "updated_on": "2026-05-01T00:00:00Z"}
    second = look(fake.connector(), cursor(first))
    assert fake.pages == 100, "as long as all of them are as new as the newest was"
    fake.pages = 0
    fake.issues[78] |= {"subject": "さらに", "updated_on": "2026-05-02T00:00:00Z"}
    third = look(fake.connector(), cursor(second))
    assert fake.pages == 1 and len(versions(third)) == 10_000
    assert versions(third).keys() - versions(second).keys() == {"#78 さらに"}
    del fake.issues[5000]
    fourth = look(fake.connector(), cursor(third))
    assert len(versions(fourth)) == 9_999 and isinstance(fourth[-1], Checkpoint)
    assert fourth[-1].complete and "#5000 件 5000" not in versions(fourth)


def test_an_issue_that_goes_while_they_are_listed_hides_no_other(answering: Server) -> None:
    fake = Fake(answering, 250)
    given = fake._listed

    def listed(asked: dict[str, str]) -> object:
        said = given(asked)
        fake.issues.pop(3, None)  # by offsets, the 101st would now be on the first page
        return said

    fake._listed = listed  # type: ignore[method-assign]
    assert len(versions(look(fake.connector()))) >= 249


@pytest.mark.parametrize(
    ("path", "wrong", "error"),
    [
        ("issues", says(b'{"issues": [{"id"', content_type="application/json"), SourceUnreachable),
        ("issues", says(b'{"issues": [], "total_count": 9}', content_type="application/json"),
         SourceUnreachable),
        ("users", says(b'{"users": [], "total_count": 9}', content_type="application/json"),
         SourceUnreachable),
        ("projects", says(b'{"projects": [], "total_count": 9}', content_type="application/json"),
         SourceUnreachable),
        ("projects", says(b"<html>", content_type="text/html"), SourceMisconfigured),
        ("users", says(status=403), SourceDenied),
        ("users", says(status=429, Retry_After="3600"), SourceBusy),
    ],
)  # fmt: skip
def test_half_an_answer_deletes_nothing(
    answering: Server, path: str, wrong: Answer, error: type[Exception]
) -> None:
    fake = Fake(answering, 150)
    since = cursor(look(fake.connector()))
    fake.wrong[path] = wrong
    told = []
    with pytest.raises(error):
        for change in fake.connector().changes(since):
            told.append(change)
    assert not told


def test_a_page_that_comes_again_ends(answering: Server) -> None:
    fake = Fake(answering, 150)
    same = {"issues": list(fake.issues.values())[:100], "total_count": 150}
    fake._listed = lambda asked: same  # type: ignore[method-assign]
    with pytest.raises(SourceUnreachable, match="繰り返します"):
        look(fake.connector())


@pytest.mark.parametrize(("status", "passes"), [(500, True), (403, False)])
def test_a_project_that_does_not_say_who_may_read_keeps_what_it_had(
    answering: Server, status: int, passes: bool
) -> None:
    fake = Fake(answering, 3)
    first = look(fake.connector())
    fake.wrong["projects/1/memberships"] = says(status=status)
    second = look(fake.connector(), cursor(first))
    assert [c.transient for c in second if isinstance(c, Failed)] == [passes]
    taken = [c.access for c in second if isinstance(c, AccessChanged)]
    assert taken == ([] if passes else [NOBODY] * 3)
    assert second[-1] == Checkpoint(cursor(second), complete=False)
    fake.wrong.clear()
    third = look(fake.connector(), cursor(second))
    assert readers(third) == readers(first)


def test_it_waits_as_long_as_it_is_asked_to(answering: Server) -> None:
    fake = Fake(answering, 3)
    connector, busy = fake.connector(), says(status=429, Retry_After="7")

    def once(handler: object) -> None:
        del fake.wrong["issues"]
        busy(handler)  # type: ignore[arg-type]

    fake.wrong["issues"] = once
    assert len(versions(look(connector))) == 3 and fake.slept == [7.0]


def test_an_issue_that_is_not_as_issues_are_hides_no_other(answering: Server) -> None:
    fake = Fake(answering, 3)
    del fake.issues[2]["tracker"]
    changes = look(fake.connector())
    assert set(versions(changes)) == {"#1 件 1", "#3 件 3"}
    assert [c.uri for c in changes if isinstance(c, Failed)] == [f"{answering.url}/issues/2"]
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete


def test_a_project_with_strange_answers_opens_nothing_else(
    answering: Server, tmp_path: Path
) -> None:
    """Where a file lies is never taken from an answer."""
    fake = Fake(answering, 1)
    evil = {"id": 7, "filename": "../../a.txt", "filesize": 1, "created_on": "2026-04-01T00:00:00Z",
            "content_url": f"file://{tmp_path}/x"}  # fmt: skip
    fake.issues[1]["attachments"] = [evil]
    answering.answers["/attachments/download/7"] = says("中身".encode())
    found = [c.file for c in look(fake.connector()) if isinstance(c, Upsert)]
    with found[1].open() as stream:
        assert stream.read().decode() == "中身"
    assert answering.asked[-1][0] == "/attachments/download/7"
