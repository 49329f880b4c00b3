"""The dictionary that lies on the disk, beside one that does not."""

from __future__ import annotations

import random
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance import shelf
from appliance.errors import NotReady
from appliance.shelf import Shelf
from appliance.types import Failed, Layer, Principal

ODD = ["", "議事録/三月.txt", "零\0", "半\udce3", "Ａ", "A", "#", "議事録/三月.tx"]


def test_it_does_what_a_dict_does() -> None:
    rng, plain, kept = random.Random(1), dict[str, tuple[int, str]](), Shelf[tuple[int, str]](tuple)
    for n in range(3000):
        key = rng.choice(ODD) + str(rng.randrange(20))
        match rng.randrange(4):
            case 0 | 1:
                plain[key] = kept[key] = (n, key)
            case 2:
                assert kept.pop(key, None) == plain.pop(key, None)
            case 3:
                assert kept.get(key) == plain.get(key) and (key in kept) == (key in plain)
        assert len(kept) == len(plain) and bool(kept) == bool(plain)
    assert list(kept) == list(plain) and list(kept.items()) == list(plain.items())
    assert list(kept.values()) == list(plain.values()) and kept.keys() == plain.keys()
    with pytest.raises(KeyError):
        kept["ない"]
    with pytest.raises(KeyError):
        del kept["ない"]


def test_it_may_change_while_somebody_walks_over_it() -> None:
    kept = Shelf[int]()
    for n in range(2000):
        kept[f"{n}"] = n
    for key in kept:
        if int(key) % 2:
            del kept[key]
        else:
            kept[key] = -1
    assert len(kept) == 1000 and set(kept.values()) == {-1}


def test_marks() -> None:
    kept = Shelf[int]()
    for key in ("う", "あ", "い"):
        kept[key] = 0
    kept.mark("い")
    kept.mark("え")
    kept["え"] = 0
    kept["い"] = 1
    assert kept.marked("い") and not kept.marked("え"), "what was not there was not marked"
    assert list(kept.unmarked_keys()) == ["あ", "う", "え"] and kept.unmarked() == 3
    kept.unmark()
    assert kept.unmarked() == 4
    for n in range(1500):
        kept[f"あ{n:04}"] = n
    assert list(kept.unmarked_keys()) == sorted(kept)
    assert kept.mark_all(["い", "ない", "あ0003", "半\udce3"]) == {"い", "あ0003"}
    assert kept.marked("い") and kept.marked("あ0003") and kept.unmarked() == len(kept) - 2


def test_many_at_once() -> None:
    plain, kept = {"b": 0, "a": 0}, Shelf[int]()
    kept.fill(plain.items())
    more = {f"{n}" + ODD[n % len(ODD)]: n for n in range(1200)} | {"a": 7}
    kept.fill(more.items())
    assert list(kept.items()) == list((plain | more).items())
    kept.fill(())
    with pytest.raises(ZeroDivisionError):
        kept.fill((f"neu{n}", 1 // (900 - n)) for n in range(1000))
    assert "neu0" in kept, "what came before is there"


def test_a_million_names_would_not_fill_the_memory() -> None:
    kept = Shelf[tuple[int, str]](tuple)
    tracemalloc.start()
    try:
        for n in range(20_000):
            kept[f"営業部/見積の控え{n:06}"] = (n, "控え")
        assert sum(n for n, _ in kept.values()) == 199_990_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


def test_a_full_disk_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_MAKE", f"PRAGMA max_page_count = 20; {shelf._MAKE}")
    kept = Shelf[str]()
    with pytest.raises(NotReady, match=r"空きがなく.*ディスクを足して"):
        for n in range(1000):
            kept[f"{n}"] = "あ" * 1000


def test_what_lies_on_it_comes_back_as_it_was() -> None:
    access = (Layer(frozenset({Principal("user:ito"), Principal("everyone")})), Layer(frozenset()))
    at = datetime(2026, 4, 1, 9, 30, 0, 123456, tzinfo=UTC)
    file = Failed("規程/\udce3.txt", "規程", "読めません", True, access)
    kept = Shelf[Any]()
    for key, value in {
        "a": file,
        "b": at,
        "c": b"\x00\xff",
        "d": None,
        "e": {"": ["x", 1.5]},
    }.items():
        kept[key] = value
    assert [kept[key] for key in "abcd"] == [file, at, b"\x00\xff", None] and kept["e"] == {
        "": ["x", 1.5]
    }
    assert hash(kept["a"].access) == hash(access)
    with pytest.raises(TypeError, match="no shelf"):
        kept["f"] = object()
