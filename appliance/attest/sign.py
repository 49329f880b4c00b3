"""The form of a signed report, and what of it was changed.

A report is a head and its sections. The head holds the digest of each section, of the printed
page and of the head before; the signature (Ed25519) is the head's. So a change has a name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import BadRequest
from appliance.store.signing import canonical, raw

FORMAT = 1
KIND = "kura-sovereignty-report"
_CONTEXT = b"kura-attest-1\n"
_PARTS = {"head", "sections", "public_key", "signature"}
_LONGEST = 64_000_000

Report = dict[str, Any]


def digest(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def sealed(
    key: Ed25519PrivateKey,
    sections: Mapping[str, Any],
    page: bytes,
    *,
    number: int,
    made_at: str,
    previous: str,
) -> Report:
    head = {
        "kind": KIND,
        "format": FORMAT,
        "number": number,
        "made_at": made_at,
        "previous": previous,
        "sections": {name: digest(value) for name, value in sections.items()},
        "page": hashlib.sha256(page).hexdigest(),
    }
    signature = key.sign(_CONTEXT + canonical(head))
    return {
        "head": head,
        "sections": dict(sections),
        "public_key": base64.b64encode(raw(key.public_key())).decode(),
        "signature": base64.b64encode(signature).decode(),
    }


def read(path: Path) -> Report:
    """Raises BadRequest for what is no report."""
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("too long")
        found = json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
        if not isinstance(found, dict) or not isinstance(found["head"], dict):
            raise ValueError("no head")
        if (found["head"].get("kind"), found["head"].get("format")) != (KIND, FORMAT):
            raise ValueError("another kind")
        if not isinstance(found["sections"], dict) or found.keys() != _PARTS:
            raise ValueError("other parts")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "形が違います"
        raise BadRequest(f"{path} は主権証明の報告として読めません（{why}）。") from None
    return found


def signer(report: Report) -> Ed25519PublicKey | None:
    """Whose key the report says it was signed with; None where that is no key."""
    try:
        data = base64.b64decode(report["public_key"], validate=True)
        return Ed25519PublicKey.from_public_bytes(data)
    except (ValueError, TypeError, binascii.Error):
        return None


def changed(
    report: Report,
    trusted: Sequence[Ed25519PublicKey],
    page: bytes | None,
    titles: Mapping[str, str],
) -> list[str]:
    """What is not as it was signed, a sentence each. `trusted`: empty takes the report's own key."""
    head, sections, found = report["head"], report["sections"], []
    by = signer(report)
    try:
        signature = base64.b64decode(report["signature"], validate=True)
    except (ValueError, TypeError, binascii.Error):
        by = None
    if by is None:
        return ["公開鍵か署名が壊れています。"]
    if trusted and raw(by) not in {raw(one) for one in trusted}:
        found.append("このサイトの鍵ではない、別の鍵で署名されています。")
    try:
        by.verify(signature, _CONTEXT + canonical(head))
    except InvalidSignature:
        found.append(
            "見出し（番号・日時・前の報告・章と PDF のダイジェスト）か署名が変えられています。"
        )
    signed = head.get("sections")
    signed = signed if isinstance(signed, dict) else {}
    for name in sorted(signed.keys() | sections.keys()):
        title = f"章「{titles.get(name, name)}」"
        if name not in sections:
            found.append(f"{title}が取り除かれています。")
        elif name not in signed:
            found.append(f"{title}が書き加えられています。")
        elif digest(sections[name]) != signed[name]:
            found.append(f"{title}が変えられています。")
    if page is not None and hashlib.sha256(page).hexdigest() != head.get("page"):
        found.append("PDF が変えられています。")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name said twice would be one thing to us and another to who reads the file."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
