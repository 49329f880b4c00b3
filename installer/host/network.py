"""The company's network, as far as it is named: address, certificate, directory, file servers.

Nothing is asked but what the options name. The directory and the file server are spoken to in
their first words alone, which need no library: LDAP's bind (RFC 4511) and SMB 2's negotiation
([MS-SMB2] 2.2.3 and 2.2.4).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime

from installer.host.finding import Finding, Host, Wanted, bad, ok, warning

WAIT_S = 5.0
_NOT_SUPPORTED = 0xC00000BB  # none of the dialects that were offered
DAYS = 30  # of a certificate's life that should be left
_RESULTS = {
    0: "",
    49: "名前かパスワードが違います / wrong name or password",
    53: "サーバーが断りました / unwilling",
    8: "強い認証が要ります (ldaps か StartTLS) / stronger authentication needed",
}


def port(host: Host, wanted: Wanted) -> Finding:
    needed = f"{wanted.address}:{wanted.port} が空いていること / free"
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    with socket.socket(family) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((wanted.address, wanted.port))
        except OSError as error:
            return bad(
                f"{error.strerror}",
                needed,
                f"ss -ltnp 'sport = :{wanted.port}'   # 使っているものを止める / stop what uses it",
            )
    return ok("空いています / free", needed)


def name(host: Host, wanted: Wanted) -> Finding | None:
    if not wanted.name:
        return None
    needed = f"{wanted.name} がこの機械を指すこと / names this machine"
    mend = f"社内の DNS に {wanted.name} を登録してください。 / Enter {wanted.name} in the company's DNS."
    try:
        found = {str(a[4][0]) for a in socket.getaddrinfo(wanted.name, wanted.port)}
    except OSError as error:
        return bad(f"{error.strerror}", needed, mend)
    if not any(map(_own, found)):
        return warning(", ".join(sorted(found)), needed, mend)
    return ok(", ".join(sorted(found)), needed)


def certificate(host: Host, wanted: Wanted) -> Finding | None:
    """Served once on loopback and looked at as a browser would: key, chain, name and date."""
    if not wanted.certificate:
        return None
    needed = (
        f"{wanted.name or 'この名前'} の証明書と鍵、残り {DAYS} 日 / certificate and key, days left"
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        ours.load_cert_chain(wanted.certificate, wanted.key, password=lambda: "")
        theirs = ssl.create_default_context(cafile=wanted.authority)
    except OSError as error:
        return bad(
            f"{wanted.certificate}: {error.strerror or error}",
            needed,
            "PEM の証明書 (中間を含む) と、合言葉の無い鍵を渡してください。 / Give a PEM chain and its key, without a passphrase.",
        )
    shown, why = _shown(ours, theirs, wanted.name or "localhost")
    if not shown:
        return bad(
            why,
            needed,
            "名前・期限・発行元を確かめ、社内認証局の証明書を --authority で渡してください。 / Check name, date and issuer; give the company's CA by --authority.",
        )
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    left = (until - datetime.now(UTC)).days
    found = f"{until:%Y-%m-%d} まで、あと {left} 日 / days left"
    return (
        ok(found, needed)
        if left >= DAYS
        else warning(found, needed, "更新してください。 / Renew it.")
    )


def directory(host: Host, wanted: Wanted) -> Finding | None:
    if not wanted.ldap:
        return None
    needed = f"{wanted.ldap} にサインインできること / lets us bind"
    try:
        with _connected(wanted) as one:
            one.sendall(_bind(wanted.ldap_user, wanted.ldap_password))
            code = _result(_message(one))
    except (OSError, ValueError) as error:
        why = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or error
        return bad(
            str(why),
            needed,
            "名前・ポート・証明書 (--authority) を確かめてください。 / Check name, port and certificate.",
        )
    if code:
        return bad(
            _RESULTS.get(code, f"LDAP {code}"),
            needed,
            "--ldap-user と KURA_LDAP_PASSWORD を確かめてください。 / Check both.",
        )
    who = wanted.ldap_user or "匿名 / anonymous"
    return ok(f"できました / bound: {who}", needed)


def file_servers(host: Host, wanted: Wanted) -> Finding | None:
    if not wanted.smb:
        return None
    needed = "SMB 2 以降を話すこと / speak SMB 2 or newer"
    said, wrong = [], False
    for server in wanted.smb:
        try:
            said.append(f"{server}: SMB {_dialect(server)}")
        except (OSError, ValueError) as error:
            said.append(f"{server}: {getattr(error, 'strerror', None) or error}")
            wrong = True
    if wrong:
        return bad(
            "; ".join(said),
            needed,
            "名前と、445 番への経路を確かめてください。 / Check the name and the way to port 445.",
        )
    return ok("; ".join(said), needed)


def _own(address: str) -> bool:
    """Whether it is one of this machine's: only those can be listened on."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
    return True


def _shown(
    ours: ssl.SSLContext, theirs: ssl.SSLContext, name: str
) -> tuple[dict[str, object], str]:
    """What a client sees of it, or why it would not go on."""
    a, b = socket.socketpair()
    a.settimeout(WAIT_S)
    b.settimeout(WAIT_S)

    def serve() -> None:
        with contextlib.suppress(OSError), ours.wrap_socket(b, server_side=True) as other:
            other.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with theirs.wrap_socket(a, server_hostname=name) as one:
            return dict(one.getpeercert() or {}), ""
    except OSError as error:
        return {}, str(getattr(error, "verify_message", "") or error)
    finally:
        a.close()
        thread.join(WAIT_S)


@contextlib.contextmanager
def _connected(wanted: Wanted) -> Iterator[socket.socket]:
    at = urllib.parse.urlsplit(wanted.ldap)
    if at.scheme not in {"ldap", "ldaps"} or not at.hostname:
        raise ValueError("ldaps://サーバー[:ポート] と書いてください / write ldaps://server[:port]")
    place = (at.hostname, at.port or (636 if at.scheme == "ldaps" else 389))
    with socket.create_connection(place, WAIT_S) as plain:
        if at.scheme == "ldap":
            yield plain
            return
        context = ssl.create_default_context(cafile=wanted.authority)
        with context.wrap_socket(plain, server_hostname=at.hostname) as one:
            yield one


def _bind(user: str, password: str) -> bytes:
    """LDAPMessage 1: a simple bind of version 3."""
    asked = b"\x02\x01\x03" + _tlv(0x04, user.encode()) + _tlv(0x80, password.encode())
    return _tlv(0x30, b"\x02\x01\x01" + _tlv(0x60, asked))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _message(one: socket.socket) -> bytes:
    """The content of one BER sequence. Raises ValueError for anything else."""
    head = _exactly(one, 2)
    size = head[1]
    if size & 0x80:
        if not 0 < size & 0x7F <= 3:
            raise ValueError("LDAP を話しません / does not speak LDAP")
        size = int.from_bytes(_exactly(one, size & 0x7F), "big")
    if head[0] != 0x30:
        raise ValueError("LDAP を話しません / does not speak LDAP")
    return _exactly(one, size)


def _result(message: bytes) -> int:
    """The code of a BindResponse."""
    at = 2 + message[1]  # past the message's number
    if message[at] != 0x61:
        raise ValueError("LDAP を話しません / does not speak LDAP")
    long = message[at + 1]
    at += 2 + (long & 0x7F if long & 0x80 else 0)
    if message[at : at + 2] != b"\x0a\x01":
        raise ValueError("LDAP を話しません / does not speak LDAP")
    return message[at + 2]


def _dialect(server: str) -> str:
    """The dialect that it chooses below 3.1.1, which wants more than first words."""
    dialects = (0x0202, 0x0210, 0x0300, 0x0302)
    header = b"\xfeSMB" + struct.pack("<HHIHHIIQII", 64, 0, 0, 0, 1, 0, 0, 0, 0, 0) + bytes(24)
    asked = struct.pack("<HHHHI", 36, len(dialects), 1, 0, 0x44) + os.urandom(16) + bytes(8)
    asked += struct.pack(f"<{len(dialects)}H", *dialects)
    host, _, port = server.partition(":")
    with socket.create_connection((host, int(port or 445)), WAIT_S) as one:
        one.sendall(struct.pack(">I", len(header + asked)) + header + asked)
        (size,) = struct.unpack(">I", _exactly(one, 4))
        if size > 65_536:
            raise ValueError("SMB を話しません / does not speak SMB")
        told = _exactly(one, size)
    if told[:4] != b"\xfeSMB" or len(told) < 70:
        raise ValueError("SMB 2 を話しません / does not speak SMB 2")
    (status,) = struct.unpack_from("<I", told, 8)
    if status == _NOT_SUPPORTED:
        return "3.1.1"
    if status:
        raise ValueError(f"断られました / refused (0x{status:08x})")
    (chosen,) = struct.unpack_from("<H", told, 68)
    return f"{chosen >> 8}.{chosen >> 4 & 15}.{chosen & 15}"


def _exactly(one: socket.socket, size: int) -> bytes:
    one.settimeout(WAIT_S)
    held = b""
    while len(held) < size:
        part = one.recv(size - len(held))
        if not part:
            raise ValueError("途中で切れました / it hung up")
        held += part
    return held
