"""What search shows of a question with its answer, and of a mail that quotes another."""

from __future__ import annotations

from pathlib import Path

from appliance.formats.sandbox import Sandbox
from appliance.ingest.sync import sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.testing.fakes import MemoryConnector
from appliance.types import EVERYONE, Access, Layer

PUBLIC: Access = (Layer(frozenset({EVERYONE})),)
FAQ = (
    "Q1. 社員証を失くしたときはどうしますか。\nA1. 総務部の窓口に届けてください。\n\n"
    "Q2. 私物の端末をつないでもよいですか。\nA2. 貸出機を申し込んでください。\n"
)
MAIL = (
    "From: 山田 太郎 <yamada@example.jp>\nSubject: Re: 見積\nDate: Mon, 02 Mar 2026 10:00:00 +0900\n"
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    "承知しました。手配します。\n\n2026年2月27日(金) 18:05 佐藤 花子 <sato@example.jp>:\n\n"
    "> 鋳物の単価は850円、納期は三月末です。\n"
)


def test_a_pair_and_a_quote_are_found_under_their_names(
    machine: Appliance, ito, tmp_path: Path
) -> None:
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    files = {
        "総務/よくある質問.txt": (FAQ.encode(), PUBLIC),
        "受信/見積.eml": (MAIL.encode(), PUBLIC),
    }
    with Sandbox(machine.settings) as sandbox:
        connector = MemoryConnector(files)
        sync(machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings)
    machine.follower.catch_up()

    def found(question: str) -> dict[str, str]:
        first = ito.http.post("/api/v1/search", json={"question": question}).json()["passages"][0]
        return {"label": first["label"], "text": first["text"]}

    pair = found("私物の端末をつないでもよいですか")
    assert pair["label"] == "Q2. 私物の端末をつないでもよいですか。"
    assert "A2. 貸出機を申し込んでください。" in pair["text"]
    quote = found("鋳物の単価と納期")
    assert quote["label"] == "引用: 佐藤 花子 2026年2月27日 18:05"
    assert "850円" in quote["text"] and "手配します" not in quote["text"]
