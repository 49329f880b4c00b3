"""The promises of `split`, over documents made at random and by hand."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from appliance.formats.structure import sections
from appliance.text.split import sentences, split
from appliance.types import Chunk, Document, Mark

SIZE, PARENT = 400, 1500


def holds(document: Document, size: int = SIZE, parent: int = PARENT) -> list[Chunk]:
    """Every promise of split, for one document."""
    chunks = split(document, size, parent)
    text = document.text
    covered = 0
    for chunk in chunks:
        assert text[covered : chunk.start].strip() == "", "nothing but blanks is left out"
        assert covered <= chunk.start < chunk.end <= len(text)
        assert chunk.end - chunk.start <= size * 5 // 4
        assert text[chunk.start : chunk.end] == text[chunk.start : chunk.end].strip()
        assert chunk.parent_start <= chunk.start
        assert chunk.end <= chunk.parent_end
        assert chunk.parent_end - chunk.parent_start <= parent
        covered = chunk.end
    assert text[covered:].strip() == ""
    parents = sorted({(c.parent_start, c.parent_end) for c in chunks})
    assert all(a[1] <= b[0] for a, b in pairwise(parents))
    for mark in document.marks:
        if mark.kind in ("part", "slide"):
            assert not [p for p in parents if p[0] < mark.start < p[1]], "a hard border is kept"
    return chunks


def random_document(rng: random.Random) -> Document:
    pieces = [
        "旅費は実費とする。",
        "ただし、上限がある",
        "\n",
        "\n\n",
        "。",
        "　",
        "a b c ",
        "x" * 700,
        "第3条（目的）\n",
        "| a | b |\n",
    ]
    text = "".join(rng.choices(pieces, k=rng.randrange(200)))
    kinds = ["page", "cell", "section", "slide", "part"]
    marks = [
        Mark(
            rng.randrange(len(text) + 1),
            f"印{n}" * rng.randrange(1, 20),
            rng.choice(kinds),
            None,
            None,
            rng.randrange(8),
        )  # type: ignore[arg-type]
        for n in range(rng.randrange(30))
    ]
    return Document(text, tuple(sorted(marks, key=lambda m: m.start)))


@pytest.mark.parametrize("seed", range(300))
def test_promises_hold_for_any_document(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.choice([1, 7, 50, 400])
    holds(random_document(rng), size, rng.choice([size * 5 // 4 + 1, size * 4, 1500 + size]))


def test_the_same_document_is_split_the_same_way() -> None:
    document = random_document(random.Random(4))
    assert split(document) == split(document)


def ruled(text: str) -> Document:
    return Document(text, sections(text))


RULES = (
    "第3章 出張\n第12条（宿泊費）\n宿泊費は実費とする。\n第13条（日当）\n"
    + "日当は二千円とする。" * 60
    + "\n附則\n施行する。"
)


def test_headings_are_paths() -> None:
    chunks = holds(ruled(RULES))
    assert [c.heading for c in chunks] == [
        "第3章 出張 › 第12条 宿泊費",
        "第3章 出張 › 第13条 日当",
        "第3章 出張 › 第13条 日当",
        "附則",
    ]


def test_a_chapter_without_words_of_its_own_begins_its_first_article() -> None:
    first = holds(ruled(RULES))[0]
    assert RULES[first.start : first.end].startswith("第3章 出張\n第12条")


def test_an_article_is_one_chunk_when_it_fits() -> None:
    text = "".join(f"第{n}条（題）\n{'規定する。' * 20}\n" for n in range(1, 30))
    chunks = holds(ruled(text))
    assert [c.heading for c in chunks] == [f"第{n}条 題" for n in range(1, 30)]
    assert len({c.parent_start for c in chunks}) < len(chunks) / 2, "small articles share a parent"


def test_chunks_end_with_sentences() -> None:
    text = "この規程は、従業員の出張に要する旅費について定める。" * 100
    assert all(text[c.end - 1] == "。" for c in holds(Document(text)))


def test_no_crumb_is_left_at_the_end() -> None:
    text = "十文字の文である一。" * 43
    assert [c.end - c.start for c in holds(Document(text))] == [430]


def test_rows_are_not_cut() -> None:
    text = "\n".join(f"番号: {n} | 品名: 部品{n} | 金額: {n}00円" for n in range(200))
    for chunk in holds(Document(text)):
        assert text[chunk.start : chunk.end].startswith("番号")


def test_a_slide_and_an_attachment_stand_alone() -> None:
    text = "一枚目\n二枚目\n本文\n添付\n中身"
    marks = (
        Mark(0, "スライド 1", "slide"),
        Mark(4, "スライド 2", "slide"),
        Mark(11, "添付: 見積.txt", "part"),
    )
    chunks = holds(Document(text, marks))
    assert [text[c.parent_start : c.parent_end] for c in chunks] == [
        "一枚目",
        "二枚目\n本文",
        "添付\n中身",
    ]
    assert chunks[2].heading == "添付: 見積.txt"


def test_pages_are_soft() -> None:
    text = "前のページから続く文が、次のページで終わる。"
    chunks = holds(Document(text, (Mark(0, "p. 1", "page", 1), Mark(10, "p. 2", "page", 2))))
    assert len(chunks) == 1


@pytest.mark.parametrize("text", ["", " \n　\n"])
def test_nothing_makes_no_chunks(text: str) -> None:
    assert split(Document(text)) == []


def test_sizes_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="parent_chars"):
        split(Document("a"), 400, 450)


def test_a_long_line_without_any_pause_is_cut() -> None:
    assert len(holds(Document("あ" * 100_000))) == 250


def test_a_full_stop_inside_brackets_ends_nothing() -> None:
    text = "1泊につき13,000円（税を含む。）を上限とする。次の条へ。\n「済んだ。」と言う。（終わり。）\n"
    assert [text[a:b] for a, b in sentences(text)] == [
        "1泊につき13,000円（税を含む。）を上限とする。",
        "次の条へ。",
        "「済んだ。」と言う。",
        "（終わり。）",
    ]
