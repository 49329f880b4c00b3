"""The reports of this site, in its data folder: the chain, whatever became of the copies."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.attest import page, sign
from appliance.errors import ApplianceError, BadRequest
from appliance.store import signing

_NAME = re.compile(r"kura-attest-(\d{6,})-\d{8}\.json")


@dataclass(frozen=True, slots=True)
class Made:
    number: int
    digest: str
    files: tuple[Path, ...]
    fingerprint: str
    plain_font: bool  # no Japanese font of this machine could be put into the PDF


class Shelf:
    def __init__(self, data: Path) -> None:
        self.folder = data / signing.FOLDER
        self.folder.mkdir(mode=0o700, exist_ok=True)
        signing.key(self.folder)  # before anything is looked at: a report tells where it lies

    def last(self) -> sign.Report | None:
        """Raises BadRequest where it is there and cannot be read: a chain is not begun anew."""
        found = numbered(self.folder)
        return sign.read(found[max(found)]) if found else None

    def add(self, sections: Mapping[str, Any], into: Path) -> Made:
        """Sign a new report, keep it, and lay a copy into `into`. Raises ApplianceError."""
        last = self.last()
        number = int(last["head"]["number"]) + 1 if last else 1
        previous = sign.digest(last["head"]) if last else ""
        now = datetime.now(UTC)
        stem = f"kura-attest-{number:06}-{now:%Y%m%d}"
        targets = tuple(into / f"{stem}{ending}" for ending in (".json", ".pdf"))
        for target in targets:
            if target.exists():
                raise BadRequest(
                    f"{target} がもうあります。別の系列の報告です（控えから戻したのでしょうか）。"
                    "別のフォルダーを指定してください。"
                )
        key = signing.key(self.folder)
        made_at = now.isoformat(timespec="seconds")
        about = page.About(
            number,
            made_at,
            previous,
            {name: sign.digest(value) for name, value in sections.items()},
            signing.fingerprint(key.public_key()),
        )
        printed, plain_font = page.pdf(about, sections)
        report = sign.sealed(
            key, sections, printed, number=number, made_at=made_at, previous=previous
        )
        text = json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n"
        try:
            # the report last: a page without one is overwritten by the next try
            signing.write(self.folder / f"{stem}.pdf", printed)
            signing.write(self.folder / f"{stem}.json", text)
            for target, data in zip(targets, (text, printed), strict=True):
                signing.write(target, data)
                target.chmod(0o644)
            public = into / "kura-attest.pub"
            signing.write(public, (self.folder / "site.pub").read_bytes())
            public.chmod(0o644)
        except OSError as error:
            raise ApplianceError(
                f"報告を書けません（{error.strerror}）。空きと権限を確かめ、もう一度実行してください。"
                f"署名まで済んだ報告は {self.folder} にあります。"
            ) from None
        return Made(
            number,
            sign.digest(report["head"]),
            (*targets, public),
            about.fingerprint,
            plain_font,
        )

    def check(self, into: Path) -> None:
        """Raises BadRequest for a folder that cannot take a report: before minutes pass."""
        if not into.is_dir():
            raise BadRequest(
                f"フォルダー {into} がありません。作ってから、もう一度実行してください。"
            )
        if not os.access(into, os.W_OK | os.X_OK):
            raise BadRequest(f"フォルダー {into} に書けません。権限を確かめてください。")


def numbered(folder: Path) -> dict[int, Path]:
    """The reports in a folder."""
    found = {}
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            found[int(match[1])] = path
    return found


def before(report: sign.Report, folder: Path) -> str:
    """What there is to say of the report before it, in the same folder; empty where it fits."""
    number, previous = report["head"].get("number"), report["head"].get("previous")
    if number == 1 or not isinstance(number, int):
        return "" if previous == "" else "最初の報告なのに、前の報告が書かれています。"
    path = numbered(folder).get(number - 1)
    if path is None:
        return ""
    if sign.digest(sign.read(path)["head"]) != previous:
        return f"前の報告 {path.name} とつながりません。どちらかが別の系列のものです。"
    return ""
