"""TLS of `kura web`: what it shows to browsers, and what this machine's own commands believe of it."""

from __future__ import annotations

import ssl

from appliance.errors import SettingsError
from appliance.settings import Settings


def shown(settings: Settings) -> ssl.SSLContext | None:
    """For the server; None where it speaks plain HTTP. Raises SettingsError."""
    if not settings.tls:
        return None
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        if key.stat().st_mode & 0o007:
            raise SettingsError(
                f"tls_key: {key} をほかの利用者も読めます。`chmod o= {key}` を実行してください。"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise SettingsError(
            f"tls_certificate {certificate} と tls_key {key} は組になりません、または PEM ではありません: {error}"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"証明書か鍵を読めません（{error.filename or key}: {error.strerror}）。"
        ) from None
    return context


def believed(settings: Settings) -> ssl.SSLContext | None:
    """For a client on this machine: the very certificate that `kura web` shows, and no other.

    Whose name is in it does not matter, for it is asked for at a loopback address.
    """
    if not settings.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not lead to an authority
    try:
        context.load_verify_locations(cafile=settings.tls_certificate)
    except OSError as error:  # SSLError is one
        raise SettingsError(
            f"tls_certificate {settings.tls_certificate} を読めません（{error}）。"
        ) from None
    return context
