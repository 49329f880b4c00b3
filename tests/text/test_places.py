from __future__ import annotations

from appliance.text import places
from appliance.types import Chunk, Mark


def test_a_new_sheet_has_none_of_the_old_ones_cells() -> None:
    marks = (
        Mark(0, "単価", "section"),
        Mark(5, "単価!A7", "cell"),
        Mark(20, "改定予定", "section"),
    )
    assert places.at(marks, 6) == "単価!A7 · 単価"
    assert places.at(marks, 21) == "改定予定"


def test_an_attachment_begins_its_own_pages() -> None:
    marks = (
        Mark(0, "p. 9", "page"),
        Mark(0, "第1条", "section"),
        Mark(10, "添付: 見積.txt", "part"),
    )
    assert places.at(marks, 12) == "添付: 見積.txt"


def test_the_bare_line_of_a_chapter_is_its_first_article() -> None:
    marks = (
        Mark(0, "p. 3", "page"),
        Mark(0, "第4章 宿泊費", "section", level=2),
        Mark(8, "第12条 宿泊費", "section", level=5),
    )
    chunk = Chunk(0, 60, 0, 60, "第4章 宿泊費 › 第12条 宿泊費")
    assert places.of_chunks(marks, [chunk]) == ["p. 3 · 第12条 宿泊費"]


def test_before_the_first_mark_there_is_no_place() -> None:
    assert places.at((Mark(5, "第1条", "section"),), 2) == ""
