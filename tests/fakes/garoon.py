"""Garoon, as Cybozu's public API documentation has it: SOAP of boards and cabinets, REST of spaces.

Checked: path, content type, both ways of signing in, the envelope and its times, the service of an
action, its parameters by name, how many a page may have. A refusal of SOAP is a fault with a code; one
of REST a status and `{"error": {"errorCode", "message", "cause"}}`.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lxml import etree

from appliance.types import Site
from connectors.garoon import GaroonConnector, GaroonSettings

USER, PASSWORD = "kura", "ひみつ<&>"
SOAP = "http://www.w3.org/2003/05/soap-envelope"
_ACTIONS: dict[str, set[str]] = {
    "BulletinGetCategories": set(),
    "BulletinGetTopics": set(),
    "BulletinGetTopicByIds": set(),
    "BulletinGetFollows": {"topic_id", "offset", "limit"},
    "BulletinFileDownload": {"file_id"},
    "CabinetGetFolderInfo": set(),
    "CabinetGetFileInfo": {"hid"},
    "CabinetFileDownload": {"file_id"},
}
_REST = {
    r"space/spaces": {"offset", "limit"},
    r"space/\d+/discussions": {"offset", "limit"},
    r"space/admin/space/\d+/files": {"offset", "limit"},
    r"space/admin/files/\d+": set(),
}


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class Garoon:
    """A Garoon in this process, which a test changes as its users would."""

    def __init__(self, door: str = "/g") -> None:
        self.door = door
        self.categories: dict[int, tuple[str, int]] = {1: ("ルート", 0), 3: ("総務部", 1)}
        self.topics: dict[int, dict[str, Any]] = {}
        self.follows: dict[int, list[dict[str, Any]]] = {}
        self.folders: dict[int, tuple[str, int]] = {1: ("ルート", 0)}
        self.files: dict[int, dict[str, Any]] = {}
        self.spaces: dict[int, dict[str, Any]] = {}
        self.discussions: dict[int, list[dict[str, Any]]] = {}
        self.space_files: dict[int, list[dict[str, Any]]] = {}
        self.bytes: dict[int, bytes] = {}
        self.closed: set[str] = set()  # folders, categories "hid/4", and what is switched off
        self.untold: set[int] = set()  # topics that it lists and then says nothing of
        self.manages = True  # the user administers spaces
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.retry_after = ""
        self.cut: Callable[[str, int], str | int | None] = lambda what, count: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536

            def do_GET(self) -> None:
                outer.answer(self, b"")

            def do_POST(self) -> None:
                outer.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.near}{door}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def connector(self, **more: object) -> GaroonConnector:
        said: dict[str, object] = {"url": self.url, "user": USER, "password": PASSWORD}
        said |= {"allow": ["everyone"], "per_second": 0, "spaces": True, "space_files": True}
        settings = GaroonSettings.model_validate(said | more)
        return GaroonConnector(settings, Site(near=frozenset({self.near})))

    # --- what its users do --------------------------------------------------------

    def notice(self, id_: int, subject: str, body: str = "", **more: Any) -> None:
        """Put up, or written over."""
        version = int(self.topics.get(id_, {}).get("version", 1_775_000_000)) + 1
        said = {"category": 3, "files": [], "expired": "false", "published": "true"}
        self.topics[id_] = said | {"version": version, "subject": subject, "body": body} | more

    def comment(self, topic: int, text: str, **more: Any) -> None:
        found = self.follows.setdefault(topic, [])
        number = sum(map(len, self.follows.values())) + 1
        found.append({"id": number, "number": len(found) + 1, "text": text} | more)

    def keep(self, data: bytes) -> int:
        self.bytes[len(self.bytes) + 1] = data
        return len(self.bytes)

    def attach(self, name: str, data: bytes) -> dict[str, Any]:
        return {"id": self.keep(data), "name": name, "size": len(data), "mime_type": "text/plain"}

    def file(self, name: str, data: bytes, folder: int = 1, **more: Any) -> int:
        id_ = self.keep(data)
        self.files[id_] = (
            {"name": name, "folder": folder, "size": len(data)}
            | {
                "modify_time": "2026-04-01T10:57:10+0900",
                "version": 1,
            }
            | more
        )
        return id_

    def space(self, id_: int, name: str, *, public: bool = True) -> None:
        self.spaces[id_] = {"id": str(id_), "name": name, "isPublic": public}

    def discuss(self, space: int, id_: int, title: str, body: str = "", **more: Any) -> None:
        who = {"id": "1", "code": "sato", "name": "佐藤"}
        said = {"id": str(id_), "title": title, "body": body, "isHtmlBody": False, "creator": who}
        said |= {"createdAt": "2026-04-01T09:00:00+09:00", "updatedAt": "2026-04-02T09:00:00+09:00"}
        others = [d for d in self.discussions.get(space, []) if d["id"] != str(id_)]
        self.discussions[space] = [*others, said | more]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # --- answering ----------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        soap = handler.command == "POST"
        found = re.search(rb"<soap:Body><(\w+)", body)
        what = found[1].decode() if soap and found else parts.path.partition("/api/v1/")[2]
        self.asked.append(what)
        fault = self.cut(what, self.asked.count(what))
        if isinstance(fault, int):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            self._send(handler, fault, b"{}", headers)
            return
        if fault == "drop":
            handler.close_connection = True
            return
        try:
            said = handler.headers.get("X-Cybozu-Authorization", "")
            if base64.b64decode(said).decode() != f"{USER}:{PASSWORD}":
                raise Refused(401, "FW00007" if soap else "GRN_REST_API_00003")
            if soap:
                data = self._soap(handler, parts.path, what, body)
            else:
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                data = json.dumps(self._rest(handler, parts.path, what, query, fault)).encode()
        except Refused as error:
            self.refused.append(error.code)
            if not error.code:
                self._send(handler, 404, b"<html>not found</html>", {})
                return
            data = _fault(error.code) if soap else _error(error.code)
            self._send(handler, 200 if soap else error.status, data, {})
            return
        self._send(handler, 200, data[: len(data) // 2] if fault == "half" else data, {})

    def _soap(self, handler: BaseHTTPRequestHandler, path: str, action: str, body: bytes) -> bytes:
        assert handler.headers["Content-Type"] == "text/xml; charset=UTF-8"
        envelope = etree.fromstring(body)
        texts = {etree.QName(e).localname: e.text for e in envelope.iter() if e.text}
        assert envelope.tag == f"{{{SOAP}}}Envelope"
        assert (texts["Username"], texts["Password"]) == (USER, PASSWORD)
        assert texts["Action"] == action
        assert texts["Created"] < "2026" < texts["Expires"]
        tail = "" if self.door.endswith(("grn.cgi", "grn.exe")) else ".csp"
        service = re.match("[A-Z][a-z]+", action)
        if not service or path != f"{self.door}/cbpapi/{service[0].lower()}/api{tail}":
            raise Refused(404, "")
        parameters = envelope.find(f"{{{SOAP}}}Body/{action}/parameters")
        if action not in _ACTIONS or {*parameters.attrib} != _ACTIONS[action]:
            raise Refused(400, "FW00025")
        if service[0] in self.closed:
            raise Refused(403, "GRN_CMMN_00003")
        returns = etree.Element("returns")
        getattr(self, f"_{action}")(returns, parameters)
        reply = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
        inside = etree.SubElement(etree.SubElement(reply, f"{{{SOAP}}}Body"), f"{action}Response")
        inside.append(returns)
        return bytes(etree.tostring(reply, xml_declaration=True, encoding="utf-8"))

    def _BulletinGetCategories(self, returns: Any, _: Any) -> None:
        top = etree.SubElement(returns, "categories")
        _nest(top, self.categories, "category", "categories", "name")

    def _BulletinGetTopics(self, returns: Any, asked: Any) -> None:
        for one in asked.findall("category_id"):
            if int(one.text) not in self.categories:
                raise Refused(400, "GRN_BLLT_16002")
            if f"category/{one.text}" in self.closed:
                raise Refused(403, "GRN_CMMN_00005")
            category = etree.SubElement(returns, "category", category_id=one.text)
            for id_, topic in self.topics.items():
                if topic["category"] == int(one.text):
                    etree.SubElement(category, "topic", id=str(id_))

    def _BulletinGetTopicByIds(self, returns: Any, asked: Any) -> None:
        ns = "{http://schemas.cybozu.co.jp/bulletin/2008}"
        for one in asked.findall("topics"):
            assert one.get("is_draft") == "false"
            id_ = int(one.get("topic_id"))
            if id_ in self.untold:
                continue
            if id_ not in self.topics:
                raise Refused(404, "GRN_BLLT_16003")
            said = self.topics[id_]
            names = ("version", "subject", "expired", "published", "start_datetime", "end_datetime")
            told = {k: str(said[k]) for k in names if k in said}
            told |= {"id": str(id_), "category_id": str(said["category"]), "can_follow": "true"}
            topic = etree.SubElement(returns, "topic", told | {"is_draft": "false"})
            content = etree.SubElement(topic, f"{ns}content", body=said["body"])
            if "html_body" in said:
                content.set("html_body", said["html_body"])
            for file in said["files"]:
                etree.SubElement(content, f"{ns}file", {k: str(v) for k, v in file.items()})
            for follow in self.follows.get(id_, []):
                more = {"id": str(follow["id"]), "number": str(follow["number"])}
                etree.SubElement(topic, f"{ns}follow", more)
            for who, at in (
                ("creator", "2026-04-01T00:00:00Z"),
                ("modifier", "2026-04-02T01:02:03Z"),
            ):
                etree.SubElement(topic, f"{ns}{who}", user_id="1", name="佐藤", date=at)

    def _BulletinGetFollows(self, returns: Any, asked: Any) -> None:
        found = self.follows.get(int(asked.get("topic_id")), [])[::-1]
        offset, limit = int(asked.get("offset")), int(asked.get("limit"))
        for one in found[offset : offset + limit]:
            told = {k: str(v) for k, v in one.items()} | {"topic_id": asked.get("topic_id")}
            follow = etree.SubElement(returns, "follow", told)
            at = {"user_id": "3", "name": "伊藤", "date": "2026-04-02T23:00:00Z"}
            etree.SubElement(follow, "creator", at)

    def _BulletinFileDownload(self, returns: Any, asked: Any) -> None:
        files = [f["id"] for topic in self.topics.values() for f in topic["files"]]
        self._content(returns, int(asked.get("file_id")), files, "GRN_BLLT_16012")

    def _CabinetFileDownload(self, returns: Any, asked: Any) -> None:
        self._content(returns, int(asked.get("file_id")), [*self.files], "GRN_CBNT_17002")

    def _content(self, returns: Any, id_: int, known: list[int], code: str) -> None:
        if id_ not in known:
            raise Refused(400, code)
        content = etree.SubElement(etree.SubElement(returns, "file"), "content")
        said = base64.b64encode(self.bytes[id_]).decode()
        content.text = re.sub("(.{76})", "\\1\n", said) or None

    def _CabinetGetFolderInfo(self, returns: Any, _: Any) -> None:
        top = etree.SubElement(returns, "folder_information")
        _nest(top, self.folders, "folder", "folders", "title")

    def _CabinetGetFileInfo(self, returns: Any, asked: Any) -> None:
        folder = int(asked.get("hid"))
        if folder not in self.folders or f"hid/{folder}" in self.closed:
            raise Refused(400, "GRN_CMMN_00005")
        top = etree.SubElement(returns, "file_information")
        files = etree.SubElement(top, "files", parent_id=str(folder), parent_code="x")
        for id_, said in self.files.items():
            if said["folder"] != folder:
                continue
            file = etree.SubElement(files, "file", id=str(id_), folder_id=str(folder))
            for key in ("name", "size", "modify_time"):
                etree.SubElement(file, key).text = str(said[key])
            history = etree.SubElement(etree.SubElement(file, "histories"), "history")
            for key, value in (("version", said["version"]), ("active", 1), ("modify_time", "x")):
                etree.SubElement(history, key).text = str(value)

    def _rest(
        self,
        handler: BaseHTTPRequestHandler,
        path: str,
        what: str,
        query: dict[str, str],
        fault: str | int | None,
    ) -> dict[str, Any]:
        known = next((names for one, names in _REST.items() if re.fullmatch(one, what)), None)
        if path != f"{self.door}/api/v1/{what}":
            raise Refused(404, "")
        if known is None or "space" in self.closed:
            raise Refused(400, "GRN_REST_API_00101")
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", 100))
        if query.keys() - known or not 1 <= limit <= 1000 or offset < 0:
            raise Refused(400, "GRN_REST_API_00202")
        if "/admin/" in what and not self.manages:
            raise Refused(403, "GRN_CMMN_00005")
        match what.split("/"):
            case ["space", "spaces"]:
                key, rows = "spaces", [*self.spaces.values()]
            case ["space", id_, "discussions"]:
                if int(id_) not in self.spaces:
                    raise Refused(400, "GRN_SPACE_00001")
                key, rows = "discussions", self.discussions.get(int(id_), [])
            case ["space", "admin", "space", id_, "files"]:
                key, rows = "files", self.space_files.get(int(id_), [])
            case [*_, id_]:
                if int(id_) not in self.bytes:
                    raise Refused(400, "GRN_SPACE_00021")
                content = base64.b64encode(self.bytes[int(id_)]).decode()
                return {"id": id_, "name": 'a"content":"x', "content": content}
        more = offset + limit < len(rows)
        page = rows[:limit] if fault == "repeat" else rows[offset : offset + limit]
        return {key: page, "hasNext": more}

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def _nest(top: Any, known: dict[int, tuple[str, int]], one: str, many: str, called: str) -> None:
    made = dict[int, Any]()
    for id_, (name, parent) in known.items():
        if not parent:
            made[id_] = etree.SubElement(top, "root", id=str(id_), code="ROOT")
        else:
            said = made[parent].find(many)
            inside = etree.SubElement(made[parent], many) if said is None else said
            made[id_] = etree.SubElement(inside, one, id=str(id_), code=f"c{id_}")
        etree.SubElement(made[id_], called).text = name


def _fault(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="{SOAP}"><soap:Body>'
        "<soap:Fault><soap:Code><soap:Value>soap:Sender</soap:Value></soap:Code><soap:Detail>"
        f"<code>{code}</code><diagnosis>x</diagnosis><cause>x</cause>"
        "<counter_measure>x</counter_measure></soap:Detail></soap:Fault></soap:Body></soap:Envelope>"
    ).encode()


def _error(code: str) -> bytes:
    return json.dumps({"error": {"errorCode": code, "message": "x", "cause": "x"}}).encode()
