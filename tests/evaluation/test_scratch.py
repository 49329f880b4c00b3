"""A data set asked on a site of its own, with models that rank and remember."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from appliance import build
from appliance.evaluation import scratch
from appliance.evaluation.measures import figures
from appliance.evaluation.sets import Paragraph, Question
from appliance.settings import Settings
from appliance.testing.fakes import HashEmbedder, OverlapReader, ScriptedGenerator
from appliance.types import Prompt

PARAGRAPHS = [
    Paragraph(f"{n:05}", f"第{n}蔵", f"第{n}蔵は{1700 + n}年に建った。") for n in range(12)
]


def copies(prompt: Prompt) -> Iterator[str]:
    """Says the year of the first passage."""
    found = re.search(r"(\d{4}年)", prompt.user)
    yield f"{found[1]}[1]" if found else "資料には記載がありません。"


def test_a_hidden_paragraph_answers_nothing_and_leaves_no_folder(tmp_path: Path) -> None:
    folders = []

    def make(settings: Settings):  # type: ignore[no-untyped-def]
        folders.append(settings.data)
        return build.web(
            settings,
            embedder=HashEmbedder(),
            generator=ScriptedGenerator(script=copies),
            reader=OverlapReader(),
        )

    told: list[tuple[str, int, int]] = []
    with scratch.site(
        PARAGRAPHS, Settings(data=tmp_path), lambda *step: told.append(step), make
    ) as machine:
        shown = scratch.one(machine, Question("第7蔵はいつ建った", ("00007",), ("1707年",)))
        hidden = scratch.one(machine, Question("第7蔵はいつ建った", viewer="00007"))
    assert told[-1] == ("文書", 12, 12)
    assert (shown.rank, shown.exact, shown.refused) == (1, True, False)
    assert shown.cited == (("00007", True),)
    assert shown.seconds >= shown.first_s >= shown.search_s > 0
    assert "00007" not in hidden.found
    assert "1707" not in hidden.answer
    assert figures([shown, hidden])["questions"] == 2
    assert not folders[0].exists()
    assert not list(tmp_path.iterdir())
