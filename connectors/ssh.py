"""What connectors over SSH have in common: keys as people enter them, and servers known by theirs."""

from __future__ import annotations

import re
import textwrap

import asyncssh

from appliance.errors import SourceMisconfigured

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_PEM = re.compile(r"\s*(-----BEGIN ([A-Z0-9 ]+)-----)(.*?)(-----END \2-----)\s*", re.DOTALL)


def fingerprints(said: str) -> str:
    """One, or several of a server that has several keys. Raises ValueError."""
    if not all(_FINGERPRINT.fullmatch(one.rstrip("=")) for one in said.split()):
        raise ValueError("指紋は SHA256: と 43 文字です")
    return " ".join(one.rstrip("=") for one in said.split())


def lines(pem: str) -> str:
    """A form's field of one line takes the line ends away; keys need them."""
    if not (found := _PEM.fullmatch(pem)) or ":" in found[3]:
        return pem
    body = textwrap.wrap("".join(found[3].split()), 64)
    return "\n".join([found[1], *body, found[4], ""])


def private_key(pem: str, passphrase: str) -> asyncssh.SSHKey:
    """Raises SourceMisconfigured."""
    try:
        return asyncssh.import_private_key(pem, passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise SourceMisconfigured(
            "秘密鍵を読めません。鍵の形と、パスフレーズを確かめてください。"
        ) from None


def stranger(name: str, seen: str, known: list[str]) -> str:
    """Why a server is not let in."""
    if not seen:
        return f"{name} のホスト鍵を読めません。"
    if not known:
        return (
            f"{name} のホスト鍵の指紋は {seen} です。"
            "相手の管理者に確かめてから、設定「ホスト鍵の指紋」に入れてください。"
        )
    return (
        f"{name} のホスト鍵が、設定したものと違うため、つなぎません (いまは {seen})。"
        "相手が入れ替わった理由を確かめてください。"
    )
