"""Entra's sign-in for applications, after Microsoft's public documentation: by secret or by assertion.

Checked: the form, the assertion's signature, header and claims. A refusal is `{"error", "error_codes"}`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TENANT, CLIENT = "11111111-aaaa-4aaa-8aaa-111111111111", "22222222-bbbb-4bbb-8bbb-222222222222"
SECRET = "himitsu~0451"


class NotIn(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.said = {
            "error": "invalid_client",
            "error_description": f"AADSTS{code}: A configuration issue.\r\nTrace ID: x",
            "error_codes": [code],
            "timestamp": "2026-04-01 00:00:00Z",
            "error_uri": f"https://login.example/error?code={code}",
        }


class Entra:
    """Gives tokens that say how they were got: token-secret-1, token-certificate-2."""

    def __init__(self, url: str, key: rsa.RSAPrivateKey | None = None) -> None:
        self.url, self.key = url, key or _key()
        self.certificate = _certificate(self.key)
        self.expires_in: Any = 3599
        self.signed_in = 0

    @property
    def pem(self) -> dict[str, str]:
        """The settings of a certificate."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = self.certificate.public_bytes(serialization.Encoding.PEM)
        return {"certificate": public.decode(), "private_key": key.decode(), "client_secret": ""}

    def token(self, body: bytes) -> dict[str, Any]:
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        if form["grant_type"] != "client_credentials" or form["scope"] != f"{self.url}/.default":
            raise NotIn(70011)
        if form["client_id"] != CLIENT:
            raise NotIn(700016)
        how = "secret"
        if "client_assertion" in form:
            how = "certificate"
            self._believe(form)
        elif form.get("client_secret") != SECRET:
            raise NotIn(7000215)
        self.signed_in += 1
        token = f"token-{how}-{self.signed_in}"
        return {"token_type": "Bearer", "expires_in": self.expires_in, "access_token": token}

    def _believe(self, form: dict[str, str]) -> None:
        assert form["client_assertion_type"].endswith("client-assertion-type:jwt-bearer")
        head, claims, signature = form["client_assertion"].split(".")
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        said, told = json.loads(_bytes(head)), json.loads(_bytes(claims))
        thumb = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        if said != {"alg": "PS256", "typ": "JWT", "x5t#S256": thumb}:
            raise NotIn(700027)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        public = self.certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        public.verify(_bytes(signature), f"{head}.{claims}".encode(), pss, hashes.SHA256())
        assert told["aud"] == f"{self.url}/{TENANT}/oauth2/v2.0/token"
        assert told["iss"] == told["sub"] == CLIENT and len(told["jti"]) == 36
        assert told["nbf"] - 5 <= time.time() < told["exp"] <= time.time() + 605


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _certificate(key: rsa.RSAPrivateKey, days: int = 30) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kura")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(60)).not_valid_after(now + timedelta(days))
    return made.sign(key, hashes.SHA256())
