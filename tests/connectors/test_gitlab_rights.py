"""Who may read what of GitLab, against a server that was written by its documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.types import NOBODY, AccessChanged, Failed, Remove, Upsert
from connectors import http
from tests.connectors.test_gitlab import may, run, told
from tests.fakes.gitlab import A, B, GitLab, filled, member


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = filled()
    yield one
    one.close()


def test_members_by_their_level(gitlab: GitLab) -> None:
    gitlab.members[1] = [
        member("guest", 10),
        member("planner", 15),
        member("reporter", 20),
        member("minimal", 5),
        member("gone", 40, state="blocked"),
        member("late", 40, expires_at="2020-01-01"),
        member("asked", 40, membership_state="awaiting"),
        member("sato", 10),
        member("mori", 10),
    ]
    gitlab.put(1, "issues", 5, "機密", confidential=True)
    gitlab.put(1, "issues", 6, "担当", confidential=True, assignees=[member("mori"), member("x")])
    files = told(run(gitlab.connector())[0])

    def readers(tail: str) -> set[str]:
        names = [str(one["username"]) for one in gitlab.members[1]] + ["x"]
        return {n for n in names if may(files[f"{A}/-/{tail}"].access, f"user:{n}")}

    everybody = {"guest", "planner", "reporter", "sato", "mori"}
    assert readers("issues/1") == readers("wikis/home") == everybody
    assert readers(f"issues/1/{1:032x}/見積.txt") == everybody
    assert readers("merge_requests/1") == {"reporter"}
    assert readers("issues/5") == {"planner", "reporter", "sato"}, "who wrote it may read it"
    assert readers("issues/6") == {"planner", "reporter", "sato", "mori"}


def test_names_of_gitlab_are_nobody_unless_somebody_says_so(gitlab: GitLab) -> None:
    gitlab.members[1] = [member("ito"), member("sato"), member("mori")]
    tail = f"{A}/-/issues/1"
    said: dict[str, Any] = {"same_names": False, "people": ["@sato = user:佐藤", "mori = nobody"]}
    access = told(run(gitlab.connector(**said))[0])[tail].access
    assert may(access, "user:佐藤")
    assert not any(may(access, f"user:{name}") for name in ("ito", "sato", "mori"))
    access = told(run(gitlab.connector(**said | {"same_names": True}))[0])[tail].access
    assert may(access, "user:ito")
    assert not may(access, "user:sato")
    assert not may(access, "user:mori")


def test_both_must_admit(gitlab: GitLab) -> None:
    gitlab.put(1, "issues", 5, "機密", confidential=True)
    tail = f"{A}/-/issues/1"
    access = told(run(gitlab.connector(allow=["group:社員"]))[0])[tail].access
    assert may(access, "user:ito", "group:社員")
    assert not may(access, "user:ito")
    assert not may(access, "group:社員")
    files = told(run(gitlab.connector(rights="allow", allow=["group:社員"]))[0])
    assert may(files[tail].access, "group:社員")
    assert files[f"{A}/-/issues/5"].access == NOBODY
    assert files[tail].access != NOBODY
    assert not may(told(run(gitlab.connector(rights="allow"))[0])[tail].access, "user:ito")


def test_internal_and_public_projects(gitlab: GitLab) -> None:
    gitlab.put(1, "issues", 5, "機密", confidential=True)
    for visibility in ("private", "internal", "public"):
        gitlab.projects[1] |= {"visibility": visibility, "wiki_access_level": "private"}
        files = told(run(gitlab.connector(anybody=True))[0])
        anybody = {uri.partition("/-/")[2] for uri, file in files.items() if may(file.access)}
        open_ = {"issues/1", f"issues/1/{1:032x}/見積.txt", "issues/2", "merge_requests/1"}
        assert anybody == (set() if visibility == "private" else open_)
        assert not any(may(f.access) for f in told(run(gitlab.connector())[0]).values())
    gitlab.projects[1] |= {"repository_access_level": "private"}
    files = told(run(gitlab.connector(anybody=True))[0])
    assert not may(files[f"{A}/-/merge_requests/1"].access)


def test_revoked(gitlab: GitLab) -> None:
    _, cursor = run(gitlab.connector())
    gitlab.members[1] = [member("sato")]
    gitlab.put(1, "issues", 2, "納期", confidential=True)
    changes, cursor = run(gitlab.connector(), cursor)
    files = told(changes)
    first = [isinstance(c, Upsert) for c in changes].index(True)
    early = {c.uri: c.access for c in changes[:first] if isinstance(c, AccessChanged)}
    assert {*early} == {uri for uri in files if uri.startswith(A)}, "before content"
    assert not any(may(access, "user:ito") for access in early.values())
    assert not any(may(f.access, "user:ito") for u, f in files.items() if u.startswith(A))
    assert may(files[f"{B}/-/issues/1"].access, "user:ito")
    gitlab.hidden = {"projects/1/members/all"}
    changes, cursor = run(gitlab.connector(), cursor, whole=False)
    hidden = {c.uri for c in changes if isinstance(c, AccessChanged) and c.access == NOBODY}
    assert hidden == {uri for uri in files if uri.startswith(A)}
    assert {*told(changes)} == {f"{B}/-/issues/1"}
    gitlab.hidden = set()
    changes, _ = run(gitlab.connector(), cursor)
    assert may(told(changes)[f"{A}/-/issues/1"].access, "user:sato")


def test_what_was_confidential_is_for_others_when_it_was_read_again(gitlab: GitLab) -> None:
    gitlab.members[1] = [member("ito", 10), member("mori", 20)]
    gitlab.put(1, "issues", 2, "納期", confidential=True)
    _, cursor = run(gitlab.connector())
    gitlab.put(1, "issues", 2, "納期", confidential=False)
    changes, _ = run(gitlab.connector(), cursor)
    early = [c.access for c in changes if isinstance(c, AccessChanged)]
    assert [may(one, "user:ito") for one in early] == [False]
    assert [may(one, "user:mori") for one in early] == [True]
    assert may(told(changes)[f"{A}/-/issues/2"].access, "user:ito")
    for said in ("gitlab", "allow"):
        one = gitlab.connector(rights=said, allow=["user:ito"])
        gitlab.put(1, "issues", 2, "納期", confidential=True)
        _, cursor = run(one)
        gitlab.put(1, "issues", 2, "納期", confidential=False)
        early = [c.access for c in run(one, cursor)[0] if isinstance(c, AccessChanged)]
        assert [may(access, "user:ito") for access in early] == [False]


def test_a_named_project_that_nobody_shows_us_any_more(gitlab: GitLab) -> None:
    one = gitlab.connector(projects=[A, B], groups=[])
    _, cursor = run(one)
    del gitlab.projects[2]
    changes, cursor = run(one, cursor, whole=False)
    assert [c for c in changes if isinstance(c, AccessChanged)] == [
        AccessChanged(f"{B}/-/issues/1", NOBODY)
    ]
    assert [c.uri for c in changes if isinstance(c, Failed)] == [f"{B}/"]
    assert not [c for c in changes if isinstance(c, Remove)]
    changes, _ = run(gitlab.connector(projects=[A], groups=[]), cursor)
    assert f"{B}/-/issues/1" not in told(changes)
