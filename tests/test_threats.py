"""Every threat of docs/en/threats.md has a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/en/threats.md"
WANTED = [f"M{n}" for n in range(1, 15)] + ["R4", "R5", "R15", "R23"]
WANTED += ["E1", "E2", "E3", "E4", "E5", "E12"] + [f"P{n}" for n in range(1, 21)]
WANTED += [f"S{n}" for n in range(1, 13)] + ["A18", "A19", "A20", "A21", "R25"]


def rows() -> dict[str, list[str]]:
    found = {}
    for line in PAGE.read_text("utf-8").splitlines():
        if match := re.match(r"\| ?([A-Z]\d+)? \| [^|]+ \| (.+) \|$", line):
            found[match[1] or line] = re.findall(r"`(tests/[^`]+)`", match[2])
    return found


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


def missing(named: str) -> bool:
    path, _, name = named.partition("::")
    return not (ROOT / path).is_file() or name not in functions(path)


def test_each_threat_names_tests_that_exist() -> None:
    found = rows()
    assert [one for one in WANTED if not found.get(one)] == []
    assert [named for tests in found.values() for named in tests if missing(named)] == []


def test_a_test_that_is_gone_is_noticed() -> None:
    assert missing("tests/test_threats.py::test_that_nobody_wrote")
    assert missing("tests/test_nothing.py::test_a_test_that_is_gone_is_noticed")
    assert not missing("tests/test_threats.py::test_a_test_that_is_gone_is_noticed")
