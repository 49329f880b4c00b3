"""What GitLab's REST API is asked: version 4, read only.

A listing goes on where the last page ended, by time, so that what goes meanwhile moves nothing. Where a
listing has no times, the query of the next page is taken from its Link, and the address from ours.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx2

from appliance.errors import (
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors.http import AtHome, Http, Reply, bounded, judge, shown

PAGE = 100  # the most there are in an answer
FILE_BYTES = 2_000_000_000
WINDOW_S = 60.0  # requests are counted by the minute
OVERLAP = timedelta(minutes=5)  # what was written before may show only after
_NEXT = re.compile(r'<([^>]{1,4000})>\s*;\s*rel="?next"?')
Row = Mapping[str, Any]
Params = Mapping[str, str | int]


class Api:
    """One GitLab, as the owner of a token."""

    def __init__(self, url: str, token: str, site: Site, pace: float) -> None:
        self._base = f"{url}/api/v4"
        auth = AtHome("PRIVATE-TOKEN", token, [url])
        self._http = Http([url], site, auth=auth, per_second=pace, judge=_judge)
        self._free_at = 0.0  # when requests may be made again

    def one(self, path: str, **params: str | int) -> Row:
        """Raises NotVisible where there is none: it may be hidden from this account."""
        answer = self._read(path, self._ask(path, params))
        if not isinstance(answer, dict):
            raise self._strange(path)
        return answer

    def rows(self, path: str, params: Params) -> tuple[list[Row], Reply]:
        reply = self._ask(path, params)
        answer = self._read(path, reply)
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise self._strange(path)
        return cast(list[Row], answer), reply

    def count(self, path: str, **params: str | int) -> int | None:
        """How many there are; None where there are too many for GitLab to say (10,000)."""
        _, reply = self.rows(path, {**params, "per_page": 1})
        said = reply.headers.get("x-total", "")
        return int(said) if said.isdecimal() else None

    def pages(self, path: str, **params: str | int) -> Iterator[Row]:
        """All there are, in pages whose order does not change."""
        query, asked = {**params, "per_page": PAGE}, set[str]()
        while True:
            if (said := urlencode(query)) in asked:
                raise SourceUnreachable(
                    f"GitLab の一覧が同じところを繰り返します ({shown(path)})。"
                )
            asked.add(said)
            page, reply = self.rows(path, query)
            yield from page
            if not (following := _following(reply)):
                return
            query = dict(parse_qsl(urlsplit(following).query))

    def by_time(self, path: str, field: str, after: str, **params: str | int) -> Iterator[Row]:
        """Those whose `field`, "created" or "updated", is no earlier than `after`; the oldest first.

        One that is touched meanwhile comes again.
        """
        seen, number = set[tuple[str, str]](), 1
        while True:
            query = {**params, "order_by": f"{field}_at", "sort": "asc", "per_page": PAGE}
            query |= {"page": number} | ({f"{field}_after": after} if after else {})
            page, reply = self.rows(path, query)
            fresh = [one for one in page if _key(one) not in seen]
            seen.update(map(_key, fresh))
            yield from fresh
            if not page or not (_following(reply) or (len(page) >= PAGE and fresh)):
                return
            if not fresh and number * PAGE > len(seen):
                raise SourceUnreachable(
                    f"GitLab の一覧が同じところを繰り返します ({shown(path)})。"
                )
            last = str(page[-1].get(f"{field}_at"))
            # a whole page of one time is left by its number
            number, after = (1, last) if last != after else (number + 1, after)

    def file(self, path: str) -> BinaryIO:
        self._wait()
        return self._http.file(f"{self._base}/{path}", FILE_BYTES)

    def _ask(self, path: str, params: Params) -> Reply:
        self._wait()
        url = f"{self._base}/{path}"
        reply = self._http.ask("GET", f"{url}?{urlencode(params)}" if params else url)
        left, reset = (reply.headers.get(f"ratelimit-{k}", "") for k in ("remaining", "reset"))
        self._free_at = float(reset[:12]) if left == "0" and reset.isdecimal() else 0.0
        return reply

    def _wait(self) -> None:
        if (wait_s := self._free_at - time.time()) > 0:
            self._http.sleep(min(wait_s, WINDOW_S))

    def _read(self, path: str, reply: Reply) -> Any:
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if reply.status in (404, 410):
            if not isinstance(answer, dict) or not ({"message", "error"} & answer.keys()):
                raise SourceMisconfigured(
                    f"{shown(self._base)} は GitLab ではありません。URL を確かめてください。"
                )
            raise NotVisible(
                f"GitLab に {shown(path)} がないか、トークンの利用者に見えません。"
                "パスと、トークンの利用者の参加を確かめてください。"
            )
        if answer is None:
            raise self._strange(path)
        return answer

    def _strange(self, path: str) -> SourceUnreachable:
        return SourceUnreachable(f"GitLab の {shown(path)} の応答を読めません。")


def coded(path: str) -> str:
    """A path as one part of a URL."""
    return quote(path, safe="")


def earlier(said: str) -> str:
    """From when on to ask, for what has changed until then."""
    return (moment(said) - OVERLAP).isoformat().replace("+00:00", "Z")


def moment(said: Any) -> datetime:
    """Epoch, for what is no time."""
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _key(one: Row) -> tuple[str, str]:
    return str(one.get("id")), str(one.get("updated_at"))


def _following(reply: Reply) -> str:
    found = _NEXT.search(reply.headers.get("link", ""))
    return found[1] if found else ""


def _judge(answer: httpx2.Response, url: str) -> None:
    if answer.status_code == 401:
        raise SourceDenied(
            f"{shown(url)} にサインインできません。アクセストークンが違うか、期限が切れています。"
        )
    if answer.status_code == 403 and b"insufficient_scope" in b"".join(
        bounded(answer, url, 100_000)
    ):
        raise SourceDenied("アクセストークンのスコープが足りません。read_api を選んでください。")
    judge(answer, url)
