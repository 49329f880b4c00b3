"""What people read of GitLab: an issue or a merge request with its comments, as Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import timedelta, timezone
from typing import Any

from connectors.gitlab_api import Row, moment

SIGNS = {"issues": "#", "merge_requests": "!"}
JAPAN = timezone(timedelta(hours=9))
_STATES = {"opened": "オープン", "closed": "クローズ", "merged": "マージ済み", "locked": "ロック"}


def title(kind: str, row: Row) -> str:
    return f"{SIGNS[kind]}{row['iid']} {row.get('title') or ''}".strip()


def confidential(row: Row) -> bool:
    return row.get("confidential") not in (None, False)


def version(row: Row) -> str:
    kept = ":機密" if confidential(row) else ""
    return f"{row.get('updated_at')}:{row.get('user_notes_count')}{kept}"


def digest(*said: Any) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def text(kind: str, row: Row, notes: Iterable[Row], link: str) -> str:
    merges = kind == "merge_requests"
    facts = {
        "状態": _STATES.get(str(row.get("state")), str(row.get("state") or "")),
        "作成者": _named(row.get("author")),
        "担当者": _named(row.get("assignees")),
        "レビュアー": _named(row.get("reviewers")),
        "ラベル": "、".join(map(str, row.get("labels") or [])),
        "マイルストーン": _named(row.get("milestone")),
        "期限": str(row.get("due_date") or ""),
        "ブランチ": f"{row.get('source_branch')} → {row.get('target_branch')}" if merges else "",
        "作成": _japanese(row.get("created_at")),
    }
    lines = [f"# {title(kind, row)}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if value]
    lines += ["", str(row.get("description") or ""), ""]
    for note in notes:
        when, who = _japanese(note.get("created_at")), _named(note.get("author"))
        lines += [f"## コメント {when} {who}", "", str(note["body"]), ""]
    return "\n".join([*lines, link, ""])


def _named(said: Any) -> str:
    if isinstance(said, list):
        return "、".join(filter(None, map(_named, said)))
    return str(said.get("name") or said.get("title") or "") if isinstance(said, dict) else ""


def _japanese(said: Any) -> str:
    return moment(said).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M") if said else ""
