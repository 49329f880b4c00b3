"""The files that are harmed: those of tests/corpus, and one or two of each kind that it lacks."""

from __future__ import annotations

import base64
import gzip
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import formats
from appliance.errors import Unreadable
from tests.formats.compounds import compound
from tests.formats.test_archive import SEVEN
from tests.formats.test_outlook import PACKED, attachment, message

CORPUS = Path(__file__).parents[1] / "corpus"
_LARGEST = 700_000  # bytes: the others only take time
_SELDOM = 30  # times as seldom
# a tenth of a second of a core and more, unharmed: bombs, and thousands of parts
_SLOW = frozenset({
    "入れ子爆弾.zip", "三重.gz", "二千部.eml", "爆弾.bz2.tar.bz2", "圧縮爆弾.pdf", "百五十重.eml",
    "巨大用紙.pdf", "千五百個.zip", "爆弾.tar.xz", "一字ずつ二万字.pdf", "記録.lzh", "同じ章五万.epub",
})  # fmt: skip
# told by their first bytes, and refused
_REFUSED = frozenset({
    "application/encrypted", "application/vnd.fujifilm.docuworks", "application/vnd.rar",
    "application/x-ole-storage",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seed:
    name: str
    data: bytes
    kind: str  # its media type

    @property
    def seldom(self) -> bool:
        return self.name in _SLOW or self.kind in _REFUSED


class Stock:
    """All that is harmed, in an order that stays."""

    def __init__(self, seeds: Sequence[Seed]) -> None:
        self.seeds = seeds
        self.contents = [s.data for s in seeds]
        self.kinds: Mapping[str, Sequence[Seed]] = {
            kind: [s for s in seeds if s.kind == kind] for kind in sorted({s.kind for s in seeds})
        }

    def chosen(self, rng: random.Random) -> Seed:
        """Every other time the kind comes first, so that none is forgotten."""
        while True:
            among = self.kinds[rng.choice(list(self.kinds))] if rng.random() < 0.5 else self.seeds
            seed = rng.choice(among)
            if not seed.seldom or rng.randrange(_SELDOM) == 0:
                return seed


def stock(without: Sequence[str] = ()) -> Stock:
    files = sorted(p for p in CORPUS.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))
    found = [(p.name, p.read_bytes()) for p in files if p.stat().st_size <= _LARGEST]
    left_out = {"expected.json", *without}
    return Stock([
        Seed(name, data, _kind(name, data))
        for name, data in (*found, *_made().items())
        if name not in left_out
    ])  # fmt: skip


def _kind(name: str, data: bytes) -> str:
    try:
        return formats.identify(io.BytesIO(data), name)
    except Unreadable:  # one that is torn already
        return formats.detect(data, name)


def _made() -> dict[str, bytes]:
    """Of each kind that the corpus has none of, or none that is small."""
    memo = "日当は三千円、宿泊費は一万二千円を限度とする。\n".encode()
    mail = (
        "From: ito@example.jp\nSubject: 規程\nContent-Type: text/plain; charset=utf-8\n\n".encode()
    )
    box = b"From ito@example.jp Thu Apr  2 09:30:00 2026\n" + mail + memo + b"\n"
    inner = message(f"{attachment(1)}__substg1.0_3701000D/", x0037001F="元の件", x1000001F="承知")
    told = message(
        x0037001F="見積り", x0C1A001F="伊藤", x0E04001F="佐藤; 田中", x1000001F="本文です"
    )
    attached = message(
        attachment(0), x3707001F="規程.docx", x37010102=(CORPUS / "規程.docx").read_bytes()
    )
    text = "稟議書\r\x1c\x05\x00設備の更新について、\x1f\x02承認をお願いします。\r金額は480,000円です。"
    return {
        "見積り.msg": compound(told | attached | inner),
        "様式.msg": compound(message(x0037001F="様式", x10090102=PACKED)),
        "頁.msg": compound(message(x10130102=b"<html><body><p>body</p></body></html>")),
        "受信箱.mbox": box * 3,
        "稟議.jtd": compound({"DocumentText": text.encode("utf-16-be")}),
        "図面.xdw": b"\x60\x0e\x82\x03" + bytes(200),
        "資料.rar": b"Rar!\x1a\x07\x01\x00" + bytes(100),
        "鍵付き.docx": compound({"EncryptedPackage": bytes(500), "EncryptionInfo": bytes(100)}),
        "控え.txt.gz": gzip.compress(memo * 20, mtime=0),
        **{f"{kind}.7z": base64.b64decode(data) for kind, data in SEVEN.items()},
    }
