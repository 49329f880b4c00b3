"""What people read of Garoon: a notice with its comments, or a discussion, as a page of its own."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from connectors.garoon_api import JAPAN, japanese, moment, true


def log(topic: Any) -> tuple[str, str]:
    """Who changed it last, and when."""
    for which in ("modifier", "creator"):
        one = topic.find(f"{{*}}{which}")
        if one is not None and one.get("date"):
            return str(one.get("name") or ""), str(one.get("date"))
    return "", ""


def version(topic: Any, path: str) -> str:
    """A comment may leave the version of its notice alone."""
    follows = [str(one.get("id")) for one in topic.iterfind("{*}follow")]
    newest = max(follows, key=lambda id_: (len(id_), id_), default="")
    return f"{topic.get('version')}:{len(follows)}:{newest}:{topic.get('category_id')}:{path}"


def term(topic: Any) -> str:
    begin, end = (_day(topic, which) for which in ("start", "end"))
    return f"{begin} 〜 {end}" if begin or end else ""


def _day(topic: Any, which: str) -> str:
    said = topic.get(f"{which}_datetime")
    if not said:
        return ""
    at = moment(said).astimezone(JAPAN)
    return at.strftime("%Y-%m-%d %H:%M" if true(topic.get(f"{which}_is_datetime")) else "%Y-%m-%d")


def by(one: Mapping[str, Any], who: str, when: str) -> str:
    person = one.get(who)
    person = person[0] if isinstance(person, list) and person else person
    called = person.get("name") if isinstance(person, dict) else ""
    return f"{japanese(one.get(when))} {called or ''}".strip()


def words(plain: str | None, rich: str | None) -> str:
    """HTML that ends what it begins."""
    if (rich or "").strip():
        with suppress(etree.LxmlError, ValueError):
            whole = lxml_html.fragment_fromstring(rich, create_parent="div")
            return str(lxml_html.tostring(whole, encoding="unicode"))
    return f"<p>{html.escape(plain or rich or '').replace(chr(10), '<br>')}</p>"


def page(title: str, facts: Mapping[str, Any], parts: Sequence[str]) -> str:
    rows = [f"<li>{k}: {html.escape(str(v))}</li>" for k, v in facts.items() if v]
    said = html.escape(title)
    head = f'<!doctype html><html><head><meta charset="utf-8"><title>{said}</title></head>'
    return "\n".join(
        [head, f"<body><h1>{said}</h1>", f"<ul>{''.join(rows)}</ul>", *parts, "</body></html>"]
    )
