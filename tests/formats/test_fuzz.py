"""The harming of files: the same for a seed, counted once, and kept where it matters."""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats import PARSERS
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from tests.bench import endings, fuzz, seeds, several
from tests.bench.mutation import MUTATIONS, mutated
from tests.bench.seeds import Seed, Stock


@pytest.fixture(scope="module")
def stock() -> Stock:
    return seeds.stock()


@pytest.fixture(scope="module")
def together() -> Iterator[Sandbox]:
    with Sandbox(Settings(data=Path("fuzz"), parse_seconds=20), module=several.MODULE) as sandbox:
        yield sandbox


def test_a_number_and_a_seed_make_the_same_file_again(stock: Stock) -> None:
    first = [fuzz.harmed(n, 7, stock) for n in range(30)]
    assert first == [fuzz.harmed(n, 7, stock) for n in range(30)]
    assert sum(case.data not in stock.contents for case in first) > 25


def test_each_parser_gets_its_share(stock: Stock) -> None:
    assert set(stock.kinds) == set(PARSERS)
    rng = random.Random(1)
    chosen = Counter(stock.chosen(rng).kind for _ in range(20_000))
    heavy = {k for k, among in stock.kinds.items() if not all(s.seldom for s in among)}
    assert min(chosen[k] for k in heavy) > 100 and set(chosen) == set(PARSERS)


def test_what_takes_long_is_harmed_seldom() -> None:
    bomb, quick = (
        Seed("圧縮爆弾.pdf", b"a", "application/pdf"),
        Seed("b.pdf", b"b", "application/pdf"),
    )
    rng = random.Random(1)
    chosen = Counter(Stock([bomb, quick]).chosen(rng).name for _ in range(4000))
    assert 50 < chosen["圧縮爆弾.pdf"] < 250


def test_every_mutation_takes_any_bytes() -> None:
    rng = random.Random(1)
    for how in MUTATIONS:
        for data in (b"x", b"PK\x03\x04", b"12 34", bytes(range(256))):
            assert len(how(bytearray(data), rng, [b"other"])) >= 0
    assert mutated(b"", rng, [b"other"]) == b""


def test_endings(sandbox: Sandbox, corpus: Path) -> None:
    whole = (corpus / "規程.docx").read_bytes()
    assert endings.alone(sandbox, "規程.docx", whole) == ("answered", "")
    assert endings.alone(sandbox, "規程.docx", whole[:900])[0] == "refused"


def test_files_that_share_a_child_end_as_they_do_alone(
    sandbox: Sandbox, together: Sandbox, stock: Stock
) -> None:
    cases = [fuzz.harmed(n, 3, stock) for n in range(60)]
    shared = several.put(together, [(c.name, c.data) for c in cases])
    assert shared == [endings.alone(sandbox, c.name, c.data) for c in cases]
    assert {how for how, _ in filter(None, shared)} == {"answered", "refused"}


def test_a_child_that_ends_is_told_of_no_file_but_by_each_alone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Of three files the second kills its child, in company and alone."""
    settings = Settings(data=tmp_path, parse_seconds=20)
    files = {"a.txt": b"plain\nyes", "b.txt": b"crash\n", "c.txt": b"plain\nno"}
    here = [Path(__file__).parent]
    with (
        Sandbox(settings, module="canaries", path=here) as alone,
        Sandbox(settings, module="company", path=here) as company,
    ):
        cases = [fuzz.Case(n, name, "x", data) for n, (name, data) in enumerate(files.items(), 1)]
        ends = [(c.name, e) for c, e in fuzz.Cages(alone, company, alone).ends(cases)]
    assert [e.how for _, e in ends] == ["answered", "died", "answered"]
    assert all(e.alone for _, e in ends)


def test_one_in_ten_has_a_child_of_its_own(sandbox: Sandbox, together: Sandbox) -> None:
    cases = [fuzz.Case(n, "a.txt", "text/plain", "日当は三千円".encode()) for n in range(20)]
    ends = {c.number: e for c, e in fuzz.Cages(sandbox, together, sandbox).ends(cases)}
    assert [n for n, e in ends.items() if e.alone] == [0, 10]
    assert {e.how for e in ends.values()} == {"answered"}


def test_what_is_neither_answered_nor_refused_is_kept(tmp_path: Path) -> None:
    case = fuzz.Case(5, "a.pdf", "application/pdf", b"harmed")
    for how in endings.ENDINGS:
        fuzz._keep(tmp_path, 9, case, fuzz.End(how, "why", alone=True))
    kept = {p.name for p in tmp_path.iterdir()}
    bad = ("stumbled", "memory", "late", "died", "lost")
    assert kept == {"reasons.txt", *(f"{how}-9-5-a.pdf" for how in bad)}
    assert (tmp_path / "died-9-5-a.pdf").read_bytes() == b"harmed"


def test_a_part_of_a_file_says_no_as_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"before" + b"0123456789" * 2000 + b"after")
    (tmp_path / "part").write_bytes(b"0123456789" * 2000)
    fd = os.open(tmp_path / "whole", os.O_RDONLY)
    with (tmp_path / "part").open("rb") as real:
        part = io.BufferedReader(several.Part(fd, 6, 20_000))
        for stream in (real, part):
            with pytest.raises(OSError, match="Invalid argument"):
                stream.seek(-1)
            with pytest.raises(ValueError, match="cannot fit"):
                stream.seek(1 << 64)
        for offset, whence in ((0, 2), (-7, 2), (19_995, 0), (30_000, 0), (3, 0), (-2, 1)):
            assert part.seek(offset, whence) == real.seek(offset, whence)
            assert part.read(9) == real.read(9) and part.tell() == real.tell()
        assert part.seek(0) == real.seek(0) and part.read() == real.read()
    os.close(fd)


def test_runs_add_up_and_leave_the_page_s_words(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    page.write_text("# Harmed files\n\nFound by hand: a thing.\n", "utf-8")
    for seed in (1, 2):
        ends = Counter(answered=600, refused=399, died=1)
        kinds = Counter({("text/csv", "answered"): 600, ("text/csv", "refused"): 399})
        kinds[f"text/{seed}", "died"] = 1
        counts = fuzz.Counts(1000, 120, ends, kinds, looks=50)
        fuzz.write(page, counts, seed, 12.5, "fuzz")
    text = page.read_text("utf-8")
    assert text.startswith("# Harmed files\n\nFound by hand: a thing.\n\n| date |")
    assert len([line for line in text.splitlines() if line.startswith("| 2")]) == 2
    assert "| **all** |  | 2,000 | 240 | 1,200 | 798 | 0 | 0 | 0 | 2 | 0 | 0 | 100 | 24 |" in text
    assert "| text/csv | 1,998 | 1,200 | 798 |\n" in text and "| text/1 | 1 | 0 | 0 |\n" in text


def test_a_touched_canary_is_seen() -> None:
    with fuzz.canaries() as files:
        assert not fuzz.touched(files)
        (files[0].parent / "new").write_text("x")
        assert fuzz.touched(files)
