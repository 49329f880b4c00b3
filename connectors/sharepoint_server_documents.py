"""Where the documents of a site lie, whose permissions are theirs, and what a cursor holds of them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from appliance.types import Cursor
from connectors import admit
from connectors.sharepoint_drive import spelled
from connectors.sharepoint_server_lists import Item, Shelf, Web
from connectors.sharepoint_server_rights import Own


class Found(NamedTuple):
    """A document where it lies."""

    uri: str
    web: str
    shelf: str
    id: int
    item: Item
    called: str
    above: str  # whose permissions are its own, as `scopes` names it
    name: str = ""  # of an attachment: its path


def documents(web: Web, url: str, exclude: Sequence[str]) -> Iterator[tuple[str, Found]]:
    """Those that are wanted, by what stays when they are moved."""
    for shelf in web.shelves.values():
        top = shelf.id if shelf.own is not None else ""
        folders = {i.path: f"{shelf.id}/{id}" for id, i in shelf.items.items()
                   if i.kind in "dt" and i.own is not None}  # fmt: skip
        known = dict[str, str]()
        for id, item in shelf.items.items():
            if item.kind == "d" or item.draft == "n":
                continue
            folder = item.path.rpartition("/")[0]
            if folder not in known:
                known[folder] = _above(folder, folders, shelf.path, top)
            above = known[folder] if item.own is None else f"{shelf.id}/{id}"
            its = f"{shelf.id}/{id}"
            if item.kind in "fp":
                below = unicodedata.normalize("NFC", item.path[len(shelf.path) + 1 :])
                if admit.within(below, exclude):
                    called = item.title if item.kind == "p" and item.title else _stem(item.path)
                    at = _uri(url, item.path)
                    one = Found(at, web.path, shelf.id, id, item, called, above)
                    yield f"{web.site}/{item.key}", one
                continue
            called = item.title or f"{shelf.title} {id}"
            at = f"{_uri(url, shelf.form or shelf.path)}?ID={id}"
            yield its, Found(at, web.path, shelf.id, id, item, called, above)
            for path in item.hung:
                if admit.wanted(unicodedata.normalize("NFC", path), exclude):
                    at, called = _uri(url, path), _stem(path)
                    yield (
                        f"{its}/{path}",
                        Found(at, web.path, shelf.id, id, item, called, above, path),
                    )


def scopes(web: Web) -> Iterator[tuple[str, Own]]:
    """All that has role assignments of its own: the site (""), lists, folders and items."""
    yield "", web.own
    for shelf in web.shelves.values():
        if shelf.own is not None:
            yield shelf.id, shelf.own
        for id, item in shelf.items.items():
            if item.own is not None:
                yield f"{shelf.id}/{id}", item.own


def _above(folder: str, folders: dict[str, str], end: str, top: str) -> str:
    while len(folder) > len(end):
        if folder in folders:
            return folders[folder]
        folder = folder.rpartition("/")[0]
    return top


def _uri(url: str, path: str) -> str:
    return url + spelled(unicodedata.normalize("NFC", path))


def _stem(path: str) -> str:
    name = unicodedata.normalize("NFC", path.rpartition("/")[2])
    return PurePosixPath(name).stem or name


# --- what a cursor holds ----------------------------------------------------------


def load(cursor: Cursor | None) -> dict[str, Web]:
    try:
        told = json.loads(cursor or "{}").get("webs", {})
        return {path: _loaded(path, said) for path, said in told.items()}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        return {}  # another version's: everything is listed anyway


def _loaded(path: str, said: dict[str, Any]) -> Web:
    owns: list[Own] = [tuple(tuple(one) for one in own) for own in said["owns"]]
    shelves = {}
    for told in said["shelves"]:
        items = {
            int(id): Item(*row)._replace(
                hung=tuple(row[-2]), own=None if row[-1] is None else owns[row[-1]]
            )
            for id, row in told.pop("items").items()
        }
        own = told.pop("own")
        shelf = Shelf(**told, own=None if own is None else owns[own], items=items)
        shelves[shelf.id] = shelf
    return Web(
        path=path,
        place=str(said["place"]),
        site=str(said["site"]),
        token=str(said["token"]),
        listed_at=float(said["listed_at"]),
        own=owns[said["own"]],
        shelves=shelves,
        digests=dict(said["digests"]),
    )


def save(webs: dict[str, Web]) -> Cursor:
    said = {path: _saved(web) for path, web in sorted(webs.items())}
    return Cursor(json.dumps({"webs": said}, ensure_ascii=False, separators=(",", ":")))


def _saved(web: Web) -> dict[str, Any]:
    owns = dict[Own, int]()  # most items that have assignments of their own have the same

    def place(own: Own | None) -> int | None:
        return None if own is None else owns.setdefault(own, len(owns))

    return {
        "place": web.place, "site": web.site, "token": web.token, "listed_at": web.listed_at,
        "own": place(web.own),
        "shelves": [_shelf(shelf) | {
            "own": place(shelf.own),
            "items": {id: [*item[:-1], place(item.own)] for id, item in shelf.items.items()},
        } for shelf in sorted(web.shelves.values(), key=lambda one: one.id)],
        "owns": list(owns), "digests": web.digests,
    }  # fmt: skip


def _shelf(shelf: Shelf) -> dict[str, Any]:
    return {
        "id": shelf.id, "title": shelf.title, "path": shelf.path, "kind": shelf.kind,
        "form": shelf.form, "attachments": shelf.attachments, "moderated": shelf.moderated,
        "drafts": shelf.drafts, "security": shelf.security, "unique": shelf.unique,
        "whole": shelf.whole,
    }  # fmt: skip
