"""Whose backup it is: its manifest is signed with the site's key, which who may write the folder of
backups does not have. The manifest holds the digest of all parts, and so the signature is theirs.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import BackupProblem
from appliance.store import signing

if TYPE_CHECKING:
    from appliance.backup.vault import Manifest

_CONTEXT = b"kura-backup-1\n"
_LINE = re.compile(r"^\W*site:\s*([0-9a-f ]{40,60})\s*$", re.IGNORECASE | re.MULTILINE)


def signed(facts: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The manifest with its signature."""
    stated = dict(facts) | {"signed_by": _text(signing.raw(key.public_key()))}
    stated.pop("signature", None)
    return stated | {"signature": _text(key.sign(_CONTEXT + signing.canonical(stated)))}


def holds(stated: Mapping[str, Any]) -> bool:
    """Whether a manifest is as it was signed, or was never signed."""
    by, signature = stated.get("signed_by", ""), stated.get("signature", "")
    if not by and not signature:
        return True
    bare = {name: value for name, value in stated.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(by, validate=True))
        given = base64.b64decode(signature, validate=True)
        key.verify(given, _CONTEXT + signing.canonical(bare))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def maker(manifest: Manifest) -> str:
    """The fingerprint of the site that signed it; empty where nobody did."""
    if not manifest.signed_by:
        return ""
    found = Ed25519PublicKey.from_public_bytes(base64.b64decode(manifest.signed_by))
    return signing.fingerprint(found)


def known(data: Path, said: str = "", paper: str = "") -> set[str]:
    """Fingerprints of whom is trusted: of `said` (a fingerprint, or the file of a public key) and of
    the line `site:` of a key file; where neither is given, of the site that lies in `data`.

    Raises BadRequest, BackupProblem.
    """
    if said and Path(said).is_file():
        return {signing.fingerprint(signing.public_key(Path(said)))}
    written = [said] if said else _LINE.findall(paper)
    if not written:
        own = signing.own(data)
        return {signing.fingerprint(own)} if own else set()
    found = {_plain(text) for text in written}
    if any(not re.fullmatch("[0-9a-f]{40}", one) for one in found):
        raise BackupProblem(
            "--site には、書き留めたサイトの指紋（4 文字ずつ 10 組）か、site.pub のファイルを渡してください。"
        )
    return {" ".join(one[n : n + 4] for n in range(0, 40, 4)) for one in found}


def check(manifest: Manifest, trusted: set[str]) -> None:
    """Raises BackupProblem for what none of them made, saying how it may be used all the same."""
    by = maker(manifest)
    if by and by in trusted:
        return
    anyway = "承知の上で使うには --any-site を付けてください。"
    if not by:
        raise BackupProblem(
            f"控え {manifest.name} には署名がありません。署名の始まる前の Kura ({manifest.kura}) が取ったものか、"
            f"ほかの人が置いたものです。取った覚えがあるか確かめ、{anyway}"
        )
    if trusted:
        raise BackupProblem(
            f"控え {manifest.name} は、このサイトが作ったものではありません（署名した鍵の指紋は {by}）。"
            f"置き場に書ける人を調べてください。別のサイトのものだと分かっていて、{anyway}"
        )
    raise BackupProblem(
        f"控え {manifest.name} に署名した鍵の指紋は {by} です。紙に書き留めた指紋と同じなら "
        f'--site "{by}" を付けてください。指紋が分からないまま、{anyway}'
    )


def _plain(text: str) -> str:
    return "".join(text.lower().split())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
