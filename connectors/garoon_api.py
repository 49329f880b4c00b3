"""What Garoon is asked, by SOAP and by REST, and what its refusals mean.

SOAP is there in every edition, and knows bulletin boards and cabinets; spaces are told by REST alone.
A file comes as Base64 inside an answer: it is taken out of it block by block.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, BinaryIO, cast
from urllib.parse import urlencode

import httpx2
from lxml import etree

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import http
from connectors.cybozu import sign_in
from connectors.http import AtHome, Http, bounded, shown
from connectors.markup import tree

PAGE = 100  # of discussions, which come with their words; there may be 1,000
FILE_BYTES = 450_000_000  # in Base64; Garoon takes no more than 300 MB of that
JAPAN = timezone(timedelta(hours=9))
_BLOCK = 1 << 20
_ENVELOPE = "http://www.w3.org/2003/05/soap-envelope"
_CREATED, _EXPIRES = "2010-08-12T14:45:00Z", "2037-08-12T14:45:00Z"  # as the documents have them
_CODE = re.compile(rb"\b(?:FW[0-9]{5}|GRN_[A-Z_]{2,30}_[0-9]{5}|CB_[A-Z]{2}[0-9]{2})\b")
_CONTENT = re.compile(rb'<(?:\w+:)?content(?:\s[^>]{0,200})?/?>|"content"\s{0,9}:\s{0,9}"')
_UNREADABLE = bytes(n for n in range(32) if n not in b"\t\n\r")  # Garoon lets them into its XML
_SIGN_IN = re.compile(r"FW0000[78]|GRN_REST_API_0000[123567]|CB_(WA|AU|UA)01")
_NO_RIGHT = ("GRN_CMMN_00005", "GRN_REST_API_00004", "CB_NO01", "CB_NO02")
_OFF = ("GRN_CMMN_00003", "GRN_CMMN_00004")
_GONE = (
    "GRN_BLLT_16002", "GRN_BLLT_16003", "GRN_BLLT_16012", "GRN_CMMN_00172", "GRN_SPACE_00001",
    "GRN_SPACE_00021",
)  # fmt: skip
_NAMES = {"bulletin": "掲示板", "cabinet": "ファイル管理", "space": "スペース"}


class Api:
    """One Garoon, as one of its users. `base` ends where the documents' paths begin."""

    def __init__(self, base: str, user: str, password: str, site: Site, pace: float) -> None:
        self._base, self._user, self._password = base, user, password
        # the packaged edition is a program, whose pages have no ending
        self._tail = "" if re.search(r"/grn\.(cgi|exe)$", base) else ".csp"
        auth = AtHome("X-Cybozu-Authorization", sign_in(user, password), [base])
        self._http = Http([base], site, auth=auth, per_second=pace, judge=judge)

    def soap(self, action: str, parts: Sequence[Any] = (), **attributes: str) -> Any:
        """What it returns, an element. `parts`: elements of the request."""
        url, headers, content = self._call(action, parts, attributes)
        reply = self._http.ask("POST", url, headers=headers, content=content)
        root = tree(reply.body.translate(None, _UNREADABLE))
        if root is None or etree.QName(root).localname != "Envelope":
            raise _strange(url)
        if next(root.iter("{*}Fault"), None) is not None:
            raise refusal(code(reply.body), url)
        if next(root.iter(f"{{*}}{action}Response"), None) is None:
            raise _strange(url)
        returns = next(root.iter("{*}returns"), None)
        return etree.Element("returns") if returns is None else returns

    def soap_file(self, action: str, file: str) -> BinaryIO:
        url, headers, content = self._call(action, (), {"file_id": file})
        _, copy = self._http.fetch(url, FILE_BYTES, headers=headers, method="POST", content=content)
        return decoded(copy, url)

    def rest(self, path: str, **params: str | int) -> Mapping[str, Any]:
        url = self._url(path, params)
        reply = self._http.ask("GET", url)
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise _strange(url)
        if "error" in answer:
            raise refusal(code(reply.body), url)
        return answer

    def pages(self, path: str, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """All there are, with their place. Each page begins with what ended the last.

        Raises SourceBusy where something came or went meanwhile, which moves the rest.
        """
        last, offset = None, 0
        while True:
            answer = self.rest(path, offset=offset, limit=PAGE)
            page = answer.get(key)
            if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
                raise _strange(self._url(path, {}))
            if last is not None and (not page or page[0].get("id") != last):
                raise SourceBusy(f"一覧の途中で増減しました ({path})。次の確認で読み直します。")
            begin = 0 if last is None else 1
            yield from ((offset + n, one) for n, one in enumerate(page) if n >= begin)
            if len(page) <= begin or not answer.get("hasNext", len(page) == PAGE):
                return
            last, offset = page[-1].get("id"), offset + len(page) - 1

    def rest_file(self, path: str) -> BinaryIO:
        url = self._url(path, {})
        _, copy = self._http.fetch(url, FILE_BYTES)
        return decoded(copy, url)

    def _url(self, path: str, params: Mapping[str, str | int]) -> str:
        return f"{self._base}/api/v1/{path}" + (f"?{urlencode(params)}" if params else "")

    def _call(
        self, action: str, parts: Sequence[Any], attributes: Mapping[str, str]
    ) -> tuple[str, dict[str, str], bytes]:
        soap = f"{{{_ENVELOPE}}}"
        envelope = etree.Element(f"{soap}Envelope", nsmap={"soap": _ENVELOPE})
        header = etree.SubElement(envelope, f"{soap}Header")
        etree.SubElement(header, "Action").text = action
        token = etree.SubElement(etree.SubElement(header, "Security"), "UsernameToken")
        etree.SubElement(token, "Username").text = self._user
        etree.SubElement(token, "Password").text = self._password
        times = etree.SubElement(header, "Timestamp")
        etree.SubElement(times, "Created").text = _CREATED
        etree.SubElement(times, "Expires").text = _EXPIRES
        etree.SubElement(header, "Locale").text = "jp"
        call = etree.SubElement(etree.SubElement(envelope, f"{soap}Body"), action)
        etree.SubElement(call, "parameters", dict(attributes)).extend(parts)
        service = re.match("[A-Z][a-z]+", action)
        assert service
        url = f"{self._base}/cbpapi/{service[0].lower()}/api{self._tail}"
        content = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
        return url, {"content-type": "text/xml; charset=UTF-8"}, content


def judge(answer: httpx2.Response, url: str) -> None:
    """By the code in the body, whose status is mostly 400 whatever it means."""
    if answer.status_code < 400:
        return
    if said := code(b"".join(bounded(answer, url, 100_000))):
        raise refusal(said, url)
    http.judge(answer, url)
    raise SourceMisconfigured(f"{shown(url)} がありません。Garoon の URL を確かめてください。")


def code(body: bytes) -> str:
    found = _CODE.search(body)
    return found[0].decode("ascii") if found else ""


def refusal(said: str, url: str) -> ApplianceError:
    """What a code means."""
    what = next((name for key, name in _NAMES.items() if f"/{key}/" in url), "Garoon")
    if _SIGN_IN.fullmatch(said):
        return SourceDenied(
            f"Garoon にサインインできません。ログイン名とパスワードを確かめてください。"
            f"2 段階認証の利用者では読めません ({said})。"
        )
    if said in _OFF:
        return SourceDenied(
            f"{what}を使えません。Garoon のシステム管理で、{what}とその API の利用を許してください ({said})。"
        )
    if said in _NO_RIGHT:
        return SourceDenied(f"{what}を読む権限が、この利用者にありません ({said})。")
    if said in _GONE:
        return NotVisible(f"{what}に、それはもうありません ({said})。")
    if said == "GRN_REST_API_00104":
        return SourceBusy("Garoon が混み合っています。しばらくして、また確認します。", 60.0)
    if said == "GRN_REST_API_00101":
        return SourceMisconfigured(
            f"この Garoon は{what}を答えません (パッケージ版では 6.17 から)。{what}を外してください。"
        )
    return SourceMisconfigured(f"{what}が要求を断りました ({said or '理由なし'})。")


def decoded(copy: BinaryIO, url: str) -> BinaryIO:
    """The file inside an answer, which is closed."""
    plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
    try:
        with copy:
            rest, end = _begin(copy, url)
            kept = b""
            while True:
                part, stop, _ = rest.partition(end) if end else (b"", b"/", b"")
                kept += part.translate(None, b" \t\r\n\\")
                fit = len(kept) - len(kept) % 4
                plain.write(base64.b64decode(kept[:fit], validate=True))
                kept = kept[fit:]
                if stop:
                    break
                rest = copy.read(_BLOCK)
                if not rest:
                    raise ValueError("cut")
            if kept:
                raise ValueError("cut")
        plain.seek(0)
    except ValueError:
        plain.close()
        raise SourceUnreachable(
            f"{shown(url)} のファイルが途中で切れたか、正しくありません。次の確認でやり直します。"
        ) from None
    except BaseException:
        plain.close()
        raise
    return plain


def _begin(copy: BinaryIO, url: str) -> tuple[bytes, bytes]:
    """What follows the beginning of the file, and what ends it; nothing ends one that is empty."""
    head = b""
    while block := copy.read(_BLOCK):
        head = head[-300:] + block
        if found := _CONTENT.search(head):
            end = b"" if found[0].endswith(b"/>") else b"<" if found[0][:1] == b"<" else b'"'
            return head[found.end() :], end
    copy.seek(0)
    if said := code(copy.read(_BLOCK)):
        raise refusal(said, url)
    raise _strange(url)


def _strange(url: str) -> SourceUnreachable:
    return SourceUnreachable(f"{shown(url)} の応答を読めません。Garoon の URL ですか。")


# --- what it says -----------------------------------------------------------------


def text(element: Any, name: str) -> str:
    found = element.find(f"{{*}}{name}")
    return "" if found is None else (found.text or "").strip()


def true(said: str | None) -> bool:
    return (said or "").strip().lower() in ("true", "1")


def name(said: Any, else_: str = "名前なし") -> str:
    """A part of a uri."""
    found = (
        unicodedata.normalize("NFC", str(said or "")).replace("/", "／").replace("\0", "").strip()
    )
    return found if found.strip(". ") else else_


def moment(said: Any) -> datetime:
    """A time with its zone, one without in Japan's, or seconds; epoch, for what is no time."""
    value = str(said or "").strip()
    try:
        if value.isdecimal():
            return datetime.fromtimestamp(int(value[:11]), UTC)
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=JAPAN)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def japanese(said: Any) -> str:
    return moment(said).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M") if said else ""
