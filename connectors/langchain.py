"""Any `BaseLoader` of LangChain, for what Kura has no connector of its own for.

A loader is code. It runs only if the administrator of the machine listed it (`langchain_loaders`):
whoever fills in a source names one of those, and gives it arguments. Its connections are those of
`kura work`, so the egress guard knows the hosts that the source names, and no others.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from appliance.errors import ApplianceError, NotVisible, SourceMisconfigured, SourceUnreachable
from appliance.types import ALONE, Access, Change, Checkpoint, Cursor, Failed, RawFile, Site, Upsert
from connectors import admit

_DATES = ("modified_at", "last_modified", "updated_at", "modified", "date")


class LangchainSettings(BaseModel):
    loader: str = Field(
        title="ローダー",
        description="パッケージのモジュール:クラス の形。"
        "このマシンの設定 langchain_loaders にあるものだけが使えます。",
    )
    arguments: str = Field(
        default="{}",
        title="引数",
        description='JSON のオブジェクト ({"path": "/srv/a.csv"} など)。',
    )
    secret_arguments: str = Field(
        default="{}",
        title="秘密の引数",
        description="鍵やパスワードの引数。同じ形で、封をして保存します。",
        repr=False,
    )
    hosts: list[str] = Field(
        default_factory=list,
        title="接続先",
        description="ローダーがつなぐサーバーの名前。ほかへの接続は断ります。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )

    @field_validator("loader")
    @classmethod
    def _named(cls, loader: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", loader.strip(), re.ASCII):
            raise ValueError("「モジュール:クラス」の形で書いてください")
        return loader.strip()

    @field_validator("arguments", "secret_arguments")
    @classmethod
    def _object(cls, said: str) -> str:
        try:
            given = json.loads(said or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise ValueError('{"名前": "値"} の形の JSON で書いてください')
        return said or "{}"


class LangchainConnector:
    """LangChain のローダー"""

    kind: ClassVar[str] = "langchain"
    Settings: ClassVar[type[BaseModel]] = LangchainSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: LangchainSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        self._loader()

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """One after the other, as the loader gives them: none is kept. One that breaks off loses none."""
        for uri, document in self._documents():
            if isinstance(text := getattr(document, "page_content", None), str):
                yield Upsert(self._file(uri, text, _metadata(document)))
            else:
                reason = "ローダーの文書に文字がありません"
                yield Failed(uri, _title(uri, {}), reason, False, self._access)
        yield Checkpoint(Cursor("read"), complete=True)

    def file(self, uri: str) -> RawFile:
        for one, document in self._documents():
            text = getattr(document, "page_content", None)
            if one == uri and isinstance(text, str):
                return self._file(uri, text, _metadata(document))
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, text: str, said: Mapping[str, Any]) -> RawFile:
        data = text.encode("utf-8", "replace")
        return RawFile(
            uri=uri,
            version=hashlib.sha256(data).hexdigest(),
            open=partial(io.BytesIO, data),
            access=self._access,
            title=_title(uri, said),
            modified_at=_when(said),
            media_type="text/plain",
            size_bytes=len(data),
        )

    def _documents(self) -> Iterator[tuple[str, Any]]:
        """Each with its uri: its source, and its number where a source has several."""
        loader, seen, numbers = self._loader(), set[str](), dict[str, int]()
        name = self._settings.loader.partition(":")[2]
        with self._clean():
            documents = iter(loader.lazy_load())
        while True:
            with self._clean():
                if (document := next(documents, None)) is None:
                    return
            source = unicodedata.normalize("NFC", str(_metadata(document).get("source") or name))
            source = "".join(c for c in source if c.isprintable())[:2000]
            numbers[source] = numbers.get(source, 0) + 1
            uri = source if numbers[source] == 1 else f"{source}#{numbers[source]}"
            while uri in seen:
                numbers[source] += 1
                uri = f"{source}#{numbers[source]}"
            seen.add(uri)
            yield uri, document

    def _loader(self) -> Any:
        """Made anew for every run. Raises SourceMisconfigured; what is not listed is not even imported."""
        own = self._settings
        if own.loader not in self.site.loaders:
            raise SourceMisconfigured(
                f"{own.loader} は使えません。このマシンの管理者が、設定 langchain_loaders に"
                "加えたものだけが使えます。"
            )
        for host in own.hosts:
            self.site.reach(host)
        module, _, name = own.loader.partition(":")
        with self._clean():  # a package may do what it likes while it is imported
            try:
                kind = getattr(importlib.import_module(module), name, None)
            except ImportError:
                kind = None
        if not callable(getattr(kind, "lazy_load", None)):
            raise SourceMisconfigured(
                f"{own.loader} はこのマシンに入っていないか、LangChain のローダーではありません。"
            )
        given = json.loads(own.arguments) | json.loads(own.secret_arguments)
        try:
            with self._clean():
                return kind(**given)  # type: ignore[misc]
        except SourceUnreachable as error:
            raise SourceMisconfigured(str(error)) from None

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """Errors of a loader. What it says may hold what it was told in confidence, however spelled:
        then its kind alone is told."""
        try:
            yield
        except ApplianceError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  others' code, whatever it raises
            why = type(error).__name__
            if not json.loads(self._settings.secret_arguments):
                why += f": {' '.join(str(error).split())[:300]}"
            raise SourceUnreachable(f"ローダーが失敗しました ({why})。") from None


def _metadata(document: Any) -> Mapping[str, Any]:
    said = getattr(document, "metadata", None)
    return said if isinstance(said, Mapping) else {}


def _title(uri: str, said: Mapping[str, Any]) -> str:
    title = said.get("title")
    if isinstance(title, str) and title.strip():
        return " ".join(title.split())[:500]
    return uri.rstrip("/").rpartition("/")[2] or uri


def _when(said: Mapping[str, Any]) -> datetime:
    for name in _DATES:
        value = said.get(name)
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)
