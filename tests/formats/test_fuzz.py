"""The harming of files: the same for a seed, counted once, and kept where it matters."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from appliance.formats.sandbox import Sandbox
from tests.bench import fuzz
from tests.bench.mutation import MUTATIONS, mutated


def test_a_number_and_a_seed_make_the_same_file_again(corpus: Path) -> None:
    files = [corpus / "規程.docx", corpus / "規程.pdf"]
    contents = [f.read_bytes() for f in files]
    first = [fuzz.harmed(n, 7, files, contents) for n in range(30)]
    assert first == [fuzz.harmed(n, 7, files, contents) for n in range(30)]
    assert sum(data not in contents for _, data in first) > 25


def test_every_mutation_takes_any_bytes() -> None:
    rng = random.Random(1)
    for how in MUTATIONS:
        for data in (b"x", b"PK\x03\x04", b"12 34", bytes(range(256))):
            assert len(how(bytearray(data), rng, [b"other"])) >= 0
    assert mutated(b"", rng, [b"other"]) == b""


def test_endings(sandbox: Sandbox, corpus: Path) -> None:
    whole = (corpus / "規程.docx").read_bytes()
    assert fuzz.ending(sandbox, "規程.docx", whole) == ("answered", "")
    assert fuzz.ending(sandbox, "規程.docx", whole[:900])[0] == "refused"


def test_runs_add_up(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    for seed in (1, 2):
        counts = fuzz.Counts(Counter(answered=600, refused=399, died=1))
        fuzz.write(page, counts, 1000, 50, seed, 12.5, "fuzz")
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| 2")]
    assert len(rows) == 2
    assert "| **all** |  | 2,000 | 1,200 | 798 | 0 | 0 | 0 | 2 | 0 | 0 | 100 |" in page.read_text(
        "utf-8"
    )


def test_a_touched_canary_is_seen() -> None:
    with fuzz.canaries() as files:
        assert not fuzz.touched(files)
        (files[0].parent / "new").write_text("x")
        assert fuzz.touched(files)
