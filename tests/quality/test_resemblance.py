"""The measures by which documents are judged, on texts whose measure is known."""

from __future__ import annotations

import pytest

from tests.quality.resemblance import cells, distance, pairs, wrong

TABLE = [["部署", "氏名", "内線"], ["総務", "赤沼", "2101"], ["経理", "", "4410"]]


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("", "蔵", 1), ("kitten", "sitting", 3), ("蔵前精機", "前精機株", 2), ("ab" * 80, "ba" * 80, 2)],
)  # fmt: skip
def test_distance(a: str, b: str, edits: int) -> None:
    assert distance(a, b) == distance(b, a) == edits


def test_what_shows_structure_is_not_counted() -> None:
    assert wrong("# 規程\n| ａ | 第1条 |\n| --- | --- |", "規程\na 第１条") == 0
    assert wrong("", "規程") == 1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("部署 | 氏名 | 内線\n総務 | 赤沼 | 2101\n経理 | 4410", 8),
        ("| 部署 | 氏名 | 内線 |\n| --- | --- | --- |\n| 総務 | 赤沼 | 2101 |\n| 経理 | NaN | 4410 |", 8),
        ("部署: 総務 | 氏名: 赤沼 | 内線: 2101\n部署: 経理 | 内線: 4410", 8),
        ("部署 | 氏名 | 内線\n総務 | 2101 | 赤沼\n経理 | | 4410", 6),
        ("部署\n氏名\n内線\n総務\n赤沼\n2101\n経理\n4410", 3),
        ("", 0),
    ],
)  # fmt: skip
def test_cells_count_in_their_row_and_column(text: str, right: int) -> None:
    assert cells(text, TABLE) == (right, 8)


def test_pairs_follow_their_label() -> None:
    meant = [["申請者", "山田 太郎"], ["所属", "営業二課"]]
    assert pairs("申請者: 山田太郎 | 所属 | 営業二課", meant) == (2, 2)
    assert pairs("申請者: 山田太郎 | 所属 | 営業二課", meant, written=True) == (1, 2)
    assert pairs("| 申請者 | NaN | 山田 太郎 |\n所属\n営業二課", meant) == (1, 2)
