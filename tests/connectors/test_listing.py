"""What came, moved and went between two looks at a share."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from appliance.types import (
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    RawFile,
    Remove,
    Upsert,
)
from connectors import admit
from connectors.listing import Listing, held

ALL = (Layer(frozenset({Principal("everyone")})),)


def raw(uri: str, entry: str) -> RawFile:
    return RawFile(uri, entry, io.BytesIO, ALL, uri, datetime(2026, 4, 1, tzinfo=UTC))


def look(since: Cursor | None, shut: tuple[str, ...] = (), **files: str) -> list[Change]:
    listing = Listing[str]()
    for uri, entry in files.items():
        listing.add(uri.replace("__", "/"), entry, ALL)
    for folder in shut:
        listing.shut(folder, "x", transient=True)
    return list(listing.changes(since, lambda entry: entry, raw))


def told(changes: list[Change], kind: type) -> list[str]:
    found = [c for c in changes if isinstance(c, kind)]
    return [f"{c.old_uri}>{c.uri}" if isinstance(c, Moved) else c.uri for c in found]


def after(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def test_what_one_alone_keeps_has_moved() -> None:
    since = after(look(None, a="1", b="2", c="2", d="", e="5"))
    changes = look(since, x="1", y="2", z="", e="5", f="5")
    assert told(changes, Moved) == ["a>x"]
    assert told(look(after(changes), x="1", y="2", z="", e="5", f="5"), Moved) == []


def test_a_name_that_changes_hands_is_no_move() -> None:
    since = after(look(None, a="1", b="2"))
    assert told(look(since, b="1"), Moved) == []


def test_a_folder_that_does_not_open_keeps_alive_nothing_that_went_elsewhere() -> None:
    since = after(look(None, a="1", b="2", shut__c="3"))
    changes = look(since, ("shut/",), b="2")
    assert told(changes, Remove) == ["a"]
    assert told(changes, Failed) == ["shut/"]
    assert changes[-1] == Checkpoint(after(changes), complete=False)
    opened = look(after(changes), b="2", moved="3")
    assert told(opened, Moved) == ["shut/c>moved"]


def test_most_of_a_share_is_not_taken_away_beside_a_closed_folder() -> None:
    many = {f"n{number}": str(number) for number in range(30)}
    since = after(look(None, **many))
    changes = look(since, ("shut/",), n0="0")
    assert told(changes, Remove) == []
    assert told(look(after(changes), other="29", n0="0"), Moved) == ["n29>other"]


def test_a_cursor_of_another_kind_is_no_cursor() -> None:
    for odd in ("", "[]", "{", '{"files": 3}', '{"folders": {}}'):
        assert [type(c) for c in look(Cursor(odd), a="1")] == [Upsert, Checkpoint]


def test_what_lies_below_something_left_out_is_left_out() -> None:
    assert admit.within("規程/旅費.txt", [])
    for uri in (".git/config", "a/./b", "a/..", "規程/~$開.xlsx", "@Recycle/x.txt", "Thumbs.db"):
        assert not admit.within(uri, [])
    assert not admit.within("規程/旧/旅費.txt", ["旧"])
    assert not admit.within("個人/x/旅費.txt", ["個人/*"])


def test_a_cursor_holds_any_name_in_little_room() -> None:
    files = {f"規程/第{n // 100}章/{n:05}": f"{n * 7919}" for n in range(5000)}
    files |= {"半\udce3": "1", "零\0": "2", '"': "3"}
    since = after(look(None, **files))
    assert len(since) < 30 * len(files) and held(since) == files
    assert told(look(since, **files | {"新": "4"}), Moved) == []


def test_what_an_earlier_version_remembered_is_understood() -> None:
    assert told(look(Cursor('{"files":{"a":"1","b":"2"}}'), x="1", b="2"), Moved) == ["a>x"]


def test_a_cursor_that_is_none_is_forgotten() -> None:
    whole = after(look(None, a="1", b="2"))
    for cursor in ("", "[]", "x", '{"files":"x"}', '{"files":"eJw="}', whole[:-12] + whole[-2:]):
        assert not held(Cursor(cursor)), cursor
