"""One word for one thing, wherever the product speaks Japanese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPOKEN = ("appliance", "connectors", "installer", "ui/src", "docs/ja", "README.ja.md")
OTHERS = ("appliance/training/", "installer/sample/")  # what companies write, not Kura
WRITTEN = {".py", ".sh", ".toml", ".ts", ".tsx", ".md", ".yaml", ".html"}
QUOTED = {"connectors/box_api.py": 1}  # a switch, as Box's own console names it
OTHERWISE = re.compile("フォルダ(?!ー)")


def pages() -> Iterator[tuple[str, str]]:
    for name in SPOKEN:
        place = ROOT / name
        for path in [place] if place.is_file() else place.rglob("*"):
            at = path.relative_to(ROOT).as_posix()
            if path.suffix in WRITTEN and not at.startswith(OTHERS):
                yield at, path.read_text("utf-8")


def test_a_folder_is_called_one_thing() -> None:
    found = {at: n for at, text in pages() if (n := len(OTHERWISE.findall(text)))}
    assert found == QUOTED


@pytest.mark.parametrize(
    ("text", "bad"), [("データフォルダを", True), ("データフォルダーを", False)]
)
def test_what_the_rule_finds(text: str, bad: bool) -> None:
    assert bool(OTHERWISE.search(text)) == bad
