"""kintone, as Cybozu's public REST API documentation has it: it answers what is asked as it says there.

Checked: path, method (`X-HTTP-Method-Override` too), sign-in, parameters by name, 500 records and an
offset of 10,000, 100 fields in a URL, ten comments, keys of files, what a token may read. A refusal is
a status and `{"code", "id", "message"}`.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from appliance.types import Site
from connectors.kintone import KintoneConnector, KintoneSettings

USER, PASSWORD = "kura", "himitsu:0451"
EVERYONE = {"entity": {"type": "GROUP", "code": "everyone"}, "includeSubs": False}
_BY_ID = re.compile(r"\$id (>|>=|<=|<|=) (\d+)")
_IN = re.compile(r'([^\s()"=]+) in \(("[^"]*"(?:, ?"[^"]*")*)\)')
_QUERY = re.compile(r"(?:(.*?) )?order by \$id asc limit (\d+)(?: offset (\d+))?")
_PARAMS = {
    "app": {"id"},
    "records": {"app", "query", "fields", "totalCount"},
    "record": {"app", "id"},
    "record/comments": {"app", "record", "order", "offset", "limit"},
    "app/form/fields": {"app", "lang"},
    "app/form/layout": {"app"},
    "app/acl": {"app"},
    "record/acl": {"app", "lang"},
    "field/acl": {"app"},
    "file": {"fileKey"},
}
_SETTINGS = ("app/acl", "record/acl", "field/acl")


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


@dataclass
class App:
    name: str
    token: str
    properties: dict[str, Any]
    layout: list[dict[str, Any]]
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    acl: list[dict[str, Any]] = field(
        default_factory=lambda: [{**EVERYONE, "recordViewable": True}]
    )
    record_acl: list[dict[str, Any]] = field(default_factory=list)
    field_acl: list[dict[str, Any]] = field(default_factory=list)
    manages: bool = True  # its token has アプリ管理
    last: int = 0


def text(kind: str, label: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "label": label, "noLabel": False} | more


def customers() -> App:
    """An app as a sales department has it."""
    properties = {
        "更新日時": text("UPDATED_TIME", "更新日時"),
        "作成者": text("CREATOR", "作成者"),
        "添付": text("FILE", "見積書"),
        "明細": text(
            "SUBTABLE",
            "明細",
            fields={
                "数量": text("NUMBER", "数量", unit="個", unitPosition="AFTER"),
                "品名": text("SINGLE_LINE_TEXT", "品名"),
                "図面": text("FILE", "図面"),
            },
        ),
        "担当": text("USER_SELECT", "担当者"),
        "部署": text("ORGANIZATION_SELECT", "部署"),
        "訪問": text("DATETIME", "訪問日時"),
        "経緯": text("RICH_TEXT", "経緯"),
        "区分": text("DROP_DOWN", "区分"),
        "会社名": text("SINGLE_LINE_TEXT", "会社名"),
        "原価": text("NUMBER", "原価", unit="円", unitPosition="AFTER"),
        "見出し": text("GROUP", "見出し"),
        "ステータス": text("STATUS", "ステータス", enabled=False),
    }
    layout = [
        {"type": "ROW", "fields": [{"type": "SINGLE_LINE_TEXT", "code": "会社名"}]},
        {
            "type": "GROUP",
            "code": "見出し",
            "layout": [
                {
                    "type": "ROW",
                    "fields": [
                        {"type": "DROP_DOWN", "code": "区分"},
                        {"type": "LABEL", "label": "注"},
                        {"type": "NUMBER", "code": "原価"},
                        {"type": "USER_SELECT", "code": "担当"},
                    ],
                }
            ],
        },
        {
            "type": "SUBTABLE",
            "code": "明細",
            "fields": [
                {"type": "SINGLE_LINE_TEXT", "code": "品名"},
                {"type": "NUMBER", "code": "数量"},
                {"type": "FILE", "code": "図面"},
            ],
        },
        {"type": "ROW", "fields": [{"type": "DATETIME", "code": "訪問"}]},
        {"type": "ROW", "fields": [{"type": "RICH_TEXT", "code": "経緯"}]},
        {"type": "ROW", "fields": [{"type": "FILE", "code": "添付"}]},
    ]
    return App("顧客", "token-12", properties, layout)


class Kintone:
    """A domain in this process, whose apps a test changes as their users would."""

    def __init__(self, guest: int = 0) -> None:
        self.apps = {12: customers()}
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []  # what was asked for, by resource
        self.refused: list[str] = []  # codes
        self.cut: Callable[[str, int], str | int | None] = lambda resource, count: None
        self.retry_after = ""
        self.updated = "2026-04-01T00:00:00Z"  # of what is put
        self._space = f"/guest/{guest}" if guest else ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536

            def do_GET(self) -> None:
                outer.answer(self, "GET")

            def do_POST(self) -> None:
                outer.answer(self, self.headers.get("X-HTTP-Method-Override", "POST"))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.near}"
        self.guest = guest
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def connector(self, **more: object) -> KintoneConnector:
        said: dict[str, object] = {
            "url": self.url,
            "apps": ["12"],
            "api_tokens": "12=token-12",
            "guest_space": self.guest,
            "rights": "allow",
            "allow": ["everyone"],
            "per_second": 0,
        }
        settings = KintoneSettings.model_validate(said | more)
        return KintoneConnector(settings, Site(near=frozenset({self.near})))

    def put(self, record: int = 0, app: int = 12, **values: Any) -> int:
        """A record, new or written over, by what its fields hold."""
        held = self.apps[app]
        record = record or held.last + 1
        held.last = max(held.last, record)
        before = held.records.get(record)
        revision = int(before["$revision"]["value"]) + 1 if before else 1
        row = dict(before or {"作成者": _is("CREATOR", {"code": "sato", "name": "佐藤 昇"})})
        row |= {
            "$id": _is("__ID__", str(record)),
            "$revision": _is("__REVISION__", str(revision)),
            "更新日時": _is("UPDATED_TIME", self.updated),
        }
        for code, value in values.items():
            row[code] = _is(held.properties[code]["type"], value)
        held.records[record] = row
        return record

    def attach(self, name: str, data: bytes, media_type: str = "text/plain") -> dict[str, str]:
        key = f"2026{len(self.files):08d}587E339F9067544F1A92C743460E3D12B3297"
        self.files[key] = data
        return {"contentType": media_type, "fileKey": key, "name": name, "size": str(len(data))}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # --- answering ----------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(handler.path)
        resource = parts.path.removeprefix(f"/k{self._space}/v1/").removesuffix(".json")
        self.asked.append(resource)
        fault = self.cut(resource, self.asked.count(resource))
        if isinstance(fault, int):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            _send(handler, fault, b"{}", headers)
            return
        if fault == "drop":
            handler.close_connection = True
            return
        try:
            if len(handler.path) > 8192:
                raise Refused(414, "", "Request-URL Too Large")
            if parts.path != f"/k{self._space}/v1/{resource}.json" or resource not in _PARAMS:
                _send(handler, 404, b"<html>not found</html>", {"Content-Type": "text/html"})
                return
            if method != "GET":
                raise Refused(405, "CB_IL02", "不正なリクエストです。")
            params = _params(handler, parts.query, body)
            if odd := params.keys() - _PARAMS[resource]:
                raise Refused(400, "CB_VA01", f"入力内容が正しくありません。{sorted(odd)}")
            answer = self._said(handler, resource, params)
        except Refused as error:
            self.refused.append(error.code)
            said = {"code": error.code, "id": "1505999166-897850006", "message": error.message}
            _send(handler, error.status, json.dumps(said).encode(), {})
            return
        if isinstance(answer, bytes):
            _send(handler, 200, answer, {"Content-Type": "text/plain"})
            return
        if fault == "short":
            answer["records"] = answer["records"][: len(answer["records"]) // 2]
        if fault == "repeat":
            answer["records"] = [*self.apps[12].records.values()][:500]
        data = json.dumps(answer, ensure_ascii=False).encode()
        if fault == "half":
            data = data[: len(data) // 2]
        _send(handler, 200, data, {"Content-Type": "application/json;charset=UTF-8"})

    def _said(
        self, handler: BaseHTTPRequestHandler, resource: str, params: dict[str, Any]
    ) -> dict[str, Any] | bytes:
        if resource == "file":
            self._signed_in(handler, None, resource)
            if (key := params.get("fileKey")) not in self.files:
                raise Refused(404, "GAIA_BL01", "指定したファイルが見つかりません。")
            return self.files[key]
        name = "id" if resource == "app" else "app"
        number = str(params.get(name) or "")
        if not number.isdecimal():
            raise Refused(400, "CB_VA01", f"入力内容が正しくありません。{name}: 必須です。")
        app = self.apps.get(int(number))
        self._signed_in(handler, app, resource)
        if app is None:
            raise Refused(404, "GAIA_AP01", f"指定したアプリ (id: {number}) が見つかりません。")
        match resource:
            case "app":
                creator = {"code": "tanaka", "name": "田中"}
                return {"appId": number, "name": app.name, "creator": creator, "spaceId": None}
            case "app/form/fields":
                return {"properties": app.properties, "revision": "3"}
            case "app/form/layout":
                return {"layout": app.layout, "revision": "3"}
            case "app/acl":
                return {"rights": app.acl, "revision": "3"}
            case "record/acl":
                return {"rights": app.record_acl, "revision": "3"}
            case "field/acl":
                return {"rights": app.field_acl, "revision": "3"}
            case "records":
                return _records(app, params)
        record = str(params.get("id" if resource == "record" else "record") or "")
        if not record.isdecimal() or int(record) not in app.records:
            raise Refused(404, "GAIA_RE01", f"指定したレコード (id: {record}) が見つかりません。")
        if resource == "record":
            return {"record": app.records[int(record)]}
        offset, limit = int(params.get("offset") or 0), int(params.get("limit") or 10)
        if not 0 <= limit <= 10 or params.get("order") not in ("asc", "desc", None):
            raise Refused(400, "CB_VA01", "入力内容が正しくありません。limit: 最大でも10以下です。")
        found = app.comments.get(int(record), [])
        found = found if params.get("order") == "asc" else found[::-1]
        newer = offset + limit < len(found)
        return {"comments": found[offset : offset + limit], "older": offset > 0, "newer": newer}

    def _signed_in(self, handler: BaseHTTPRequestHandler, app: App | None, resource: str) -> None:
        token = handler.headers.get("X-Cybozu-API-Token")
        if token is None:
            said = handler.headers.get("X-Cybozu-Authorization")
            if said is None:
                raise Refused(401, "CB_AU01", "ログインしてください。")
            if base64.b64decode(said).decode() != f"{USER}:{PASSWORD}":
                raise Refused(401, "CB_WA01", "パスワード認証に失敗しました。")
        elif token not in [one.token for one in self.apps.values()]:
            raise Refused(400, "GAIA_IA02", "指定したAPIトークンは、生成されたものと異なります。")
        elif app and app.token != token:
            raise Refused(400, "GAIA_AP15", "APIトークンとアプリの組み合わせが正しくありません。")
        if resource in _SETTINGS and app and not app.manages:
            raise Refused(403, "CB_NO02", "権限がありません。")


def _records(app: App, params: dict[str, Any]) -> dict[str, Any]:
    found = _QUERY.fullmatch(str(params.get("query") or ""))
    if not found:
        raise Refused(400, "GAIA_IQ03", "クエリ記法が間違っています。")
    if int(found[2]) > 500:
        raise Refused(400, "GAIA_QU01", "limit には 500 以下の数値を指定してください。")
    if int(found[3] or 0) > 10_000:
        raise Refused(400, "GAIA_QU02", "offset には 10,000 以下の数値を指定してください。")
    conditions = re.split(r" and (?=[$(])", found[1]) if found[1] else []
    rows = [app.records[id_] for id_ in sorted(app.records)]
    for condition in conditions:
        rows = _where(app, rows, condition)
    limit = int(found[2])
    total = str(len(rows)) if str(params.get("totalCount")).lower() == "true" else None
    rows = rows[int(found[3] or 0) :][:limit]
    if (fields := params.get("fields")) is not None:
        if odd := [f for f in fields if f not in ("$id", "$revision") and f not in app.properties]:
            raise Refused(400, "GAIA_IQ11", f"指定したフィールド (code: {odd[0]}) がありません。")
        rows = [{code: row[code] for code in fields if code in row} for row in rows]
    return {"records": rows, "totalCount": total}


def _where(app: App, rows: list[dict[str, Any]], condition: str) -> list[dict[str, Any]]:
    condition = condition.removeprefix("(").removesuffix(")") if condition[0] == "(" else condition
    condition += ")" if condition.count("(") > condition.count(")") else ""
    if "LOGINUSER()" in condition:
        return []  # a token has made no record
    if found := _BY_ID.fullmatch(condition):
        than = int(found[2])
        holds: dict[str, Callable[[int], bool]] = {
            ">": lambda n: n > than,
            ">=": lambda n: n >= than,
            "<": lambda n: n < than,
            "<=": lambda n: n <= than,
            "=": lambda n: n == than,
        }
        return [row for row in rows if holds[found[1]](int(row["$id"]["value"]))]
    if found := _IN.fullmatch(condition):
        if found[1] not in app.properties:
            raise Refused(400, "GAIA_IQ11", f"指定したフィールド (code: {found[1]}) がありません。")
        wanted = re.findall(r'"([^"]*)"', found[2])
        return [row for row in rows if (row.get(found[1]) or {}).get("value") in wanted]
    raise Refused(400, "GAIA_IQ03", "クエリ記法が間違っています。")


def _params(handler: BaseHTTPRequestHandler, query: str, body: bytes) -> dict[str, Any]:
    if body:
        if handler.headers.get("Content-Type") != "application/json" or query:
            raise Refused(400, "CB_IJ01", "不正なJSON文字列です。")
        return dict(json.loads(body))
    if handler.headers.get("Content-Type"):
        raise Refused(400, "CB_IL02", "不正なリクエストです。")
    params = dict[str, Any]()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if found := re.fullmatch(r"(fields)\[(\d{1,2})\]", name):
            params.setdefault(found[1], []).append(value)
        else:
            params[name] = value
    return params


def _is(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "value": value}


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def minute() -> str:
    """Now, as kintone writes the time of a change."""
    return time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime())
