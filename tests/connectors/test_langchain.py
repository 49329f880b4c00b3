"""Loaders of LangChain: only those that were listed, one document after the other, nothing let slip."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from appliance.errors import SourceMisconfigured, SourceUnreachable
from appliance.store.secrets import SECRET
from appliance.testing.contracts import ConnectorContract
from appliance.types import Change, Checkpoint, Failed, Site, Upsert
from connectors.langchain import LangchainConnector, LangchainSettings
from tests.connectors.loaders import Endless

KEY = "himitsu/0451 x"
NOTICES = "tests.connectors.loaders:Notices"
LISTED = frozenset(
    {NOTICES, "tests.connectors.loaders:NoLoader", "tests.connectors.loaders:Endless"}
)


def lines(*said: dict[str, object]) -> str:
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in said)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "知らせ.jsonl"
    file.write_text(
        lines(
            {"text": "停電は3日。", "source": "総務/停電.txt", "date": "2026-04-01T09:00:00+09:00"},
            {"text": "続き。", "source": "総務/停電.txt", "title": "停電 (2)"},
            {"text": "出どころのない知らせ。"},
        ),
        "utf-8",
    )
    return file


def connector(loader: str = NOTICES, secret: str = "{}", **arguments: object) -> LangchainConnector:
    said = {"loader": loader, "arguments": json.dumps(arguments), "secret_arguments": secret}
    settings = LangchainSettings.model_validate(said | {"allow": ["everyone"]})
    return LangchainConnector(settings, Site(loaders=LISTED))


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, path: Path) -> LangchainConnector:
        return connector(path=str(path))


def told(changes: list[Change]) -> dict[str, str]:
    return {c.file.uri: c.file.title for c in changes if isinstance(c, Upsert)}


def test_documents_have_their_source_their_title_and_their_number(path: Path) -> None:
    changes = list(connector(path=str(path)).changes(None))
    assert told(changes) == {
        "総務/停電.txt": "停電.txt",
        "総務/停電.txt#2": "停電 (2)",
        "Notices": "Notices",
    }
    first = changes[0]
    assert isinstance(first, Upsert)
    assert first.file.modified_at.isoformat() == "2026-04-01T09:00:00+09:00"
    path.write_text(lines({"text": 3, "source": "a"}, {"text": "よい", "source": "b"}), "utf-8")
    changes = list(connector(path=str(path)).changes(None))
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["a"], "it hides no other"
    assert set(told(changes)) == {"b"}


def test_what_is_not_listed_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary_0451.py").write_text("raise SystemExit('imported')", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceMisconfigured, match="langchain_loaders"):
        connector("canary_0451:Loader").check()
    assert "canary_0451" not in sys.modules
    with pytest.raises(SourceMisconfigured, match="ローダーではありません"):
        connector("tests.connectors.loaders:NoLoader").check()
    for odd in ("os.system", "a:b.c", "a b:c", "../x:y", ""):
        with pytest.raises(ValueError, match="モジュール:クラス"):
            LangchainSettings(loader=odd)
    with pytest.raises(ValueError, match="JSON"):
        LangchainSettings(loader=NOTICES, arguments="[1]")


def test_what_was_told_in_confidence_is_in_no_error(path: Path) -> None:
    assert SECRET.search("secret_arguments"), "so it is sealed"
    wrong = connector(secret='{"key": "chigau/9 x"}', path=str(path))
    with pytest.raises(SourceMisconfigured, match=r"\(ValueError\)") as told:
        wrong.check()
    broken = connector(secret=json.dumps({"key": KEY}), path=str(path), fail_at=1)
    seen: list[Change] = []
    with pytest.raises(SourceUnreachable, match=r"\(ConnectionError\)") as cut:
        seen += broken.changes(None)
    assert not [c for c in seen if isinstance(c, Checkpoint)], "nothing is gone by that"
    for text in (str(told.value), str(cut.value), repr(wrong._settings), repr(broken._settings)):
        assert not [s for s in ("chigau", KEY, "0451") if s in text]


def test_an_error_says_what_it_says_where_nothing_was_told_in_confidence(path: Path) -> None:
    with pytest.raises(SourceUnreachable, match=r"NotADirectoryError: .*ない"):
        list(connector(path=str(path / "ない")).changes(None))


def test_no_document_is_kept() -> None:
    count = sum(
        1 for _ in connector("tests.connectors.loaders:Endless", documents=500).changes(None)
    )
    assert count == 501
    assert Endless.most <= 2
