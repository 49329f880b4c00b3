"""What is common to Google's APIs: sign-in of service accounts, refusals, and the choice of fields."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ACCOUNT, KEY_ID = "kura@himitsu-451.iam.gserviceaccount.com", "kid451"


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(one: rsa.RSAPrivateKey) -> str:
    return one.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(one: rsa.RSAPrivateKey | None = None) -> str:
    """As the console gives it."""
    return json.dumps({
        "type": "service_account", "project_id": "himitsu-451", "private_key_id": KEY_ID,
        "private_key": pem(one or key()), "client_email": ACCOUNT, "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })  # fmt: skip


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str, location: str = "") -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.location = status, reason, message, location

    @property
    def body(self) -> dict[str, Any]:
        one = {"domain": "global", "reason": self.reason, "message": self.message}
        if self.location:
            one |= {"location": self.location, "locationType": "parameter"}
        return {"error": {"code": self.status, "message": self.message, "errors": [one]}}


@dataclass
class SignIn:
    """Gives tokens of one scope for assertions (RFC 7523) that the account's key has signed."""

    url: str
    scope: str
    users: set[str] = field(default_factory=set)  # for whom the account may act
    signed: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)
    lasts_s: int = 3599
    slow_s: float = 0.0  # by how much its clock is behind

    def knows(self, authorization: str) -> bool:
        return self.tokens.get(authorization.removeprefix("Bearer "), 0.0) > time.monotonic()

    def answer(self, assertion: str) -> tuple[int, dict[str, Any]]:
        head, claims, signature = assertion.split(".")
        told, said = json.loads(_bytes(head)), json.loads(_bytes(claims))
        self.signed.append(said)

        def refused(
            why: str, error: str = "invalid_grant", status: int = 400
        ) -> tuple[int, dict[str, Any]]:
            return status, {"error": error, "error_description": why}

        if told != {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}:
            return refused("Invalid JWT Signature.")
        try:
            text = f"{head}.{claims}".encode()
            key().public_key().verify(_bytes(signature), text, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            return refused("Invalid JWT Signature.")
        if said["iss"] != ACCOUNT or said["aud"] != f"{self.url}":
            return refused("Invalid JWT: Failed audience check.")
        now = time.time() - self.slow_s
        if not (now - 300 < said["iat"] <= now + 300 and 0 < said["exp"] - said["iat"] <= 3600):
            return refused(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim."
            )
        if (subject := said.get("sub")) and not subject.endswith("@example.co.jp"):
            why = "Client is unauthorized to retrieve access tokens using this method, or client "
            why += "not authorized for any of the scopes requested."
            return refused(why, "unauthorized_client", 401)
        if subject and subject not in self.users:
            return refused("Invalid email or User ID")
        if said["scope"] != self.scope:
            return refused("Bad Request", "invalid_scope")
        token = f"ya29.himitsu{len(self.signed)}"
        self.tokens[token] = time.monotonic() + self.lasts_s
        return 200, {"access_token": token, "expires_in": self.lasts_s, "token_type": "Bearer"}


def shown(body: Any, mask: str, known: Collection[str]) -> Any:
    """The fields that are asked for; of a name that is none, the vendor's refusal."""
    wanted, rest = fields(mask)
    if rest:
        raise Refused(400, "invalidParameter", f"Invalid field selection {rest}", "fields")

    def pick(said: Any, tree: dict[str, Any]) -> Any:
        for name in tree:
            if name not in known:
                message = f"Invalid field selection {name}"
                raise Refused(400, "invalidParameter", message, "fields")
        if isinstance(said, list):
            return [pick(one, tree) for one in said]
        if not tree or not isinstance(said, dict):
            return said
        return {name: pick(said[name], below) for name, below in tree.items() if name in said}

    return pick(body, wanted)


def fields(mask: str) -> tuple[dict[str, Any], str]:
    """`a,b(c,d)` as a tree, and what of the text is left."""
    tree: dict[str, Any] = {}
    while found := re.match(r"(\w+)", mask):
        name, mask = found[1], mask[found.end() :]
        tree[name] = {}
        if mask.startswith("("):
            tree[name], mask = fields(mask[1:])
            if not mask.startswith(")"):
                return tree, mask or "("
            mask = mask[1:]
        if not mask.startswith(","):
            break
        mask = mask[1:]
    return tree, mask


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
