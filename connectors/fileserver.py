"""A share of a file server over SMB 2 or 3: listings, security descriptors, files. Nothing is written.

Every answer must be signed or encrypted, whatever its flags say (`connectors/signed.py`). SMB 1 is not
spoken, a guest is not signed in, no link is followed. The name is resolved once and judged as `connectors/http.py` does. Answers are bounded in
size and in time; a connection that was cut is made once more, for all that is asked is harmless if
asked twice.
"""

from __future__ import annotations

import errno
import socket
import struct
import tempfile
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Literal, NamedTuple, TypeVar, cast

from smbprotocol.exceptions import (
    SMBAuthenticationError,
    SMBException,
    SMBResponseException,
)
from smbprotocol.header import Commands, NtStatus
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2QueryDirectoryRequest,
    SMB2QueryDirectoryResponse,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from appliance.types import Site
from connectors import lsa
from connectors.http import Pace
from connectors.signed import Signed, Unsigned, Wire
from connectors.wire import addresses

Protocol = Literal["ntlm", "negotiate", "kerberos"]
T = TypeVar("T")

TIMEOUT_S = 60.0  # for one answer
READ_BYTES = 1 << 20  # at a time
FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
ENTRIES = 1_000_000  # of one folder

HIDDEN, SYSTEM, FOLDER, REPARSE = 0x2, 0x4, 0x10, 0x400
AWAY = 0x1000 | 0x40000 | 0x400000  # moved to slow storage: reading would fetch it
_SURROGATE, _DFS = 0x2000_0000, frozenset({0x8000_000A, 0x8000_0012})
_ENTRY = struct.Struct("<IIqqqqqqIIIIQ")  # [MS-FSCC] 2.4.22: FileIdFullDirectoryInformation
_ID_FULL = 38
_LAST = b"\xff" * 16  # the file that was opened before, in the same message
_EPOCH = 116_444_736_000_000_000  # 1970 as Windows counts: 100 ns since 1601

_GONE = frozenset({
    NtStatus.STATUS_NO_SUCH_FILE, NtStatus.STATUS_OBJECT_NAME_INVALID,
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, NtStatus.STATUS_OBJECT_PATH_INVALID,
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND, NtStatus.STATUS_OBJECT_PATH_SYNTAX_BAD,
    NtStatus.STATUS_DELETE_PENDING, NtStatus.STATUS_NOT_FOUND, NtStatus.STATUS_NOT_A_DIRECTORY,
    NtStatus.STATUS_FILE_IS_A_DIRECTORY, NtStatus.STATUS_STOPPED_ON_SYMLINK,
    NtStatus.STATUS_PATH_NOT_COVERED,
})  # fmt: skip
_DENIED = frozenset({NtStatus.STATUS_ACCESS_DENIED, NtStatus.STATUS_PRIVILEGE_NOT_HELD})
_OPEN_ELSEWHERE = frozenset({NtStatus.STATUS_SHARING_VIOLATION, 0xC000_0054})  # and byte ranges
_CUT = frozenset({
    NtStatus.STATUS_NETWORK_NAME_DELETED, NtStatus.STATUS_USER_SESSION_DELETED,
    0xC000_020C, 0xC000_035C,  # disconnected, session expired
})  # fmt: skip
_SIGN_IN = {
    NtStatus.STATUS_PASSWORD_EXPIRED: "パスワードの期限が切れています。変えてから、ここにも入れ直してください。",
    0xC000_0224: "パスワードを変えるよう求められています。変えてから、ここにも入れ直してください。",
    0xC000_0234: "アカウントがロックされています。ドメインの管理者に解除を依頼してください。",
    0xC000_0072: "アカウントが無効です。ドメインの管理者に確かめてください。",
    0xC000_0193: "アカウントの期限が切れています。ドメインの管理者に確かめてください。",
    0xC000_006E: "アカウントに制限があります。ドメインの管理者に確かめてください。",
    0xC000_015B: "このアカウントにはネットワーク経由のサインインが許されていません。",
    0xC000_0133: "サーバーとこのマシンの時計が合っていません。時刻を合わせてください。",
}
_BROKEN = (SMBException, OSError, struct.error, ValueError, LookupError, TypeError, AttributeError)


class Entry(NamedTuple):
    """What a listing says of a file or a folder. Times are FILETIMEs."""

    name: str
    id: int
    size_bytes: int
    written: int
    changed: int  # what no program sets: moved by every change, of the permissions too
    attributes: int
    tag: int = 0  # of a reparse point

    @property
    def folder(self) -> bool:
        return bool(self.attributes & FOLDER)

    @property
    def leads_elsewhere(self) -> bool:
        """A link or a mount, not what is stored in another way."""
        link = bool(self.tag & _SURROGATE) or self.tag in _DFS
        return bool(self.attributes & REPARSE) and (link or not self.tag)


@dataclass
class FileServer:
    """One share, asked by one thread at a time.

    Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured, TooLarge; NotVisible
    where there is nothing (any more).
    """

    host: str
    port: int
    share: str
    user: str
    password: str = field(repr=False)
    protocol: Protocol = "ntlm"
    encrypt: bool = False
    per_second: float = 0.0  # requests, at most; 0: as many as there are
    site: Site = field(default_factory=Site)
    timeout_s: float = TIMEOUT_S
    _tree: TreeConnect | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.per_second, time.sleep)

    def entries(self, folder: str) -> list[Entry]:
        """What lies in a folder; "." is the folder itself."""
        return self._ask(folder, lambda tree: _entries(tree, folder))

    def descriptor(self, path: str) -> bytes:
        """Owner and DACL of a file, self-relative."""
        return self._ask(path, lambda tree: _descriptor(tree, path))

    def copy(self, path: str, listed: Entry) -> BinaryIO:
        """The bytes that were listed, in a file that has no name: SourceBusy where they are others."""
        return self._ask(path, lambda tree: _copy(tree, path, listed))

    def names(self, sids: Collection[str]) -> dict[str, str]:
        """DOMAIN\\name of each SID that the server knows."""
        return self._ask("", lambda tree: lsa.names(tree.session, self.host, sids))

    # --- the connection -----------------------------------------------------------

    def _ask(self, path: str, what: Callable[[TreeConnect], T]) -> T:
        shown = rf"\\{self.host}\{self.share}\{path}".rstrip("\\")
        for last in (False, True):
            self._pace.wait()
            tree = self._tree or self._connected()
            try:
                return what(tree)
            except ApplianceError:
                raise
            except Unsigned:
                self._drop()
                raise SourceMisconfigured(_UNSIGNED.format(self.host)) from None
            except SMBResponseException as error:
                if error.status not in _CUT:
                    raise _told(error.status, shown) from None
            except _BROKEN as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise  # there is no room for a copy on this machine
            self._drop()
            if last:
                break
        raise SourceUnreachable(
            f"{shown} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
        )

    def _connected(self) -> TreeConnect:
        wire = self._wire()
        connection = Signed(wire, self.host, self.port, self.timeout_s)
        try:
            session = self._signed_in(connection)
            tree = self._entered(session)
        except BaseException:
            connection.disconnect(close=False)
            raise
        weakref.finalize(self, wire.end)  # a connector is dropped, never closed
        self._tree = tree
        return tree

    def _drop(self) -> None:
        if self._tree is not None:
            self._tree.session.connection.disconnect(close=False)
            self._tree = None

    def _wire(self) -> Wire:
        self.site.reach(self.host)
        at = f"{self.host}:{self.port}"
        try:
            found = addresses(self.host, self.port, self.site.near)
        except (OSError, UnicodeError):
            raise SourceUnreachable(
                f"{self.host} という名前のサーバーが見つかりません。名前と DNS を確かめてください。"
            ) from None
        for address in found:
            try:
                line = socket.create_connection((address, self.port), self.timeout_s)
            except OSError:
                continue
            return Wire(line, self.host, self.port)
        raise SourceUnreachable(
            f"{at} につながりません。名前、ポート、ファイアウォール、相手の稼働を確かめてください。"
        )

    def _signed_in(self, connection: Signed) -> Session:
        at, who = f"{self.host}:{self.port}", self.user or "(なし)"
        try:
            connection.connect(timeout=self.timeout_s)
        except _BROKEN:
            raise SourceUnreachable(
                f"{at} は SMB 2 以上で応えません。SMB 1 だけのサーバーにはつなぎません。"
            ) from None
        session = Session(
            connection,
            self.user,
            self.password,
            require_encryption=self.encrypt,
            hostname_override=self.host,
            auth_protocol=self.protocol,
        )
        try:
            session.connect()
        except Unsigned:
            raise SourceMisconfigured(_UNSIGNED.format(self.host)) from None
        except SMBResponseException as error:
            why = _SIGN_IN.get(
                error.status, "利用者名 (DOMAIN\\名前) とパスワードを確かめてください。"
            )
            raise SourceDenied(f"{at} に {who} でサインインできません。{why}") from None
        except (SMBAuthenticationError, ImportError):
            why = "認証方式の設定を確かめてください。"
            if self.protocol == "kerberos":
                why = "Kerberos には、このマシンに gssapi と krb5 のパッケージと設定が要ります。"
            raise SourceDenied(f"{at} に {who} でサインインできません。{why}") from None
        except _BROKEN as error:
            if "guest" in str(error):
                why = "サーバーがゲストとして扱いました。利用者名とパスワードを確かめてください。"
                raise SourceDenied(f"{at} に {who} でサインインできません。{why}") from None
            if "encryption" in str(error):
                raise SourceMisconfigured(
                    f"{at} は暗号化 (SMB 3) に応じません。サーバーの設定か「暗号化」を見直してください。"
                ) from None
            raise SourceUnreachable(
                f"{at} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
            ) from None
        return session

    def _entered(self, session: Session) -> TreeConnect:
        share = rf"\\{self.host}\{self.share}"
        tree = TreeConnect(session, share)
        try:
            tree.connect()
        except SMBResponseException as error:
            if error.status == NtStatus.STATUS_BAD_NETWORK_NAME:
                raise SourceMisconfigured(
                    f"共有 {share} がありません。共有名を確かめてください。"
                ) from None
            if error.status in _DENIED:
                raise SourceDenied(
                    f"{self.user} には共有 {share} に入る権限がありません。共有のアクセス許可を確かめてください。"
                ) from None
            raise SourceUnreachable(f"共有 {share} を開けません (0x{error.status:08X})。") from None
        except _BROKEN:
            raise SourceMisconfigured(_UNSIGNED.format(self.host)) from None
        tree.is_dfs_share = False  # paths are those of this share; what leads elsewhere is left out
        return tree


_UNSIGNED = "{} の応答に正しい署名がありません。サーバーの SMB 署名を有効にし、間に割り込むものがないか確かめてください。"


# --- what is asked ----------------------------------------------------------------


def moment(filetime: int) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=(filetime - _EPOCH) // 10)
    except OverflowError:
        return datetime.fromtimestamp(0, UTC)


def _told(status: int, shown: str) -> ApplianceError:
    if status in _GONE:
        return NotVisible(f"{shown} はありません。")
    if status in _DENIED:
        return SourceDenied(f"{shown} を読む権限が、この接続の利用者にありません。")
    if status in _OPEN_ELSEWHERE:
        return SourceBusy(f"{shown} は、ほかの人が開いています。次の確認で読み直します。")
    return SourceBusy(f"{shown} をサーバーが渡しません (0x{status:08X})。")


def _opened(path: str, tree: TreeConnect, options: int) -> Open:
    opened = Open(tree, path)
    opened.create(
        ImpersonationLevel.Impersonation,
        FilePipePrinterAccessMask.FILE_READ_DATA | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES,
        0,
        ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE,
        CreateDisposition.FILE_OPEN,
        options | CreateOptions.FILE_OPEN_FOR_BACKUP_INTENT,  # of use to a Backup Operator
    )
    return opened


def _entries(tree: TreeConnect, folder: str) -> list[Entry]:
    opened = _opened(folder, tree, CreateOptions.FILE_DIRECTORY_FILE)
    try:
        found: list[Entry] = []
        while some := _more_entries(tree, opened):
            found += some
            if len(found) > ENTRIES:
                raise TooLarge(f"{folder} にファイルが多すぎます (上限 {ENTRIES:,} 個)。")
        return found
    finally:
        _closed(opened)


def _more_entries(tree: TreeConnect, opened: Open) -> list[Entry]:
    """The next of a folder; empty at its end. The library's own reading of them is slow, and lossy."""
    connection, session = tree.session.connection, tree.session
    query = SMB2QueryDirectoryRequest()
    query["file_information_class"] = _ID_FULL
    query["flags"] = 0
    query["file_id"] = opened.file_id
    query["output_buffer_length"] = 65536
    query["buffer"] = "*".encode("utf-16-le")
    try:
        request = connection.send(query, session.session_id, tree.tree_connect_id)
        answer = connection.receive(request)
    except SMBResponseException as error:
        if error.status in (NtStatus.STATUS_NO_MORE_FILES, NtStatus.STATUS_NO_SUCH_FILE):
            return []
        raise
    response = SMB2QueryDirectoryResponse()
    response.unpack(answer["data"].get_value())
    return _unpacked(response["buffer"].get_value())


def _unpacked(data: bytes) -> list[Entry]:
    found, at = list[Entry](), 0
    while True:
        said = _ENTRY.unpack_from(data, at)
        ahead, _, _, _, written, changed, size, _, attributes, length, tag, _, same = said
        name = data[at + _ENTRY.size : at + _ENTRY.size + length]
        if len(name) < length:
            raise ValueError("a listing that is cut off")
        text = name.decode("utf-16-le", "replace")
        tag = tag if attributes & REPARSE else 0
        found.append(Entry(text, same, size, written, changed, attributes, tag))
        if not ahead:
            return found
        at += ahead


@dataclass(frozen=True, slots=True)
class _Message:
    """A request that is packed already: the library packs field by field, too slow for every file."""

    COMMAND: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data)

    def pack(self) -> bytes:
        return self.data


_OPENING = struct.Struct("<HBBIQQIIIIIHHII")  # [MS-SMB2] 2.2.13
# 2.2.37: of security (3) the owner and the DACL (5)
_QUERY = struct.pack("<HBBIHHIII16s", 41, 3, 0, 65536, 0, 0, 0, 5, 0, _LAST)
_CLOSE = struct.pack("<HHI16s", 24, 0, 0, _LAST)


def _descriptor(tree: TreeConnect, path: str) -> bytes:
    """Open, query and close in one message."""
    connection, session = tree.session.connection, tree.session
    name, options = path.encode("utf-16-le"), CreateOptions.FILE_OPEN_FOR_BACKUP_INTENT
    opening = _OPENING.pack(57, 0, 0, 2, 0, 0, 0x2_0000, 0, 7, 1, options, 120, len(name), 0, 0)
    messages = (
        _Message(Commands.SMB2_CREATE, opening + (name or b"\0\0")),
        _Message(Commands.SMB2_QUERY_INFO, _QUERY),
        _Message(Commands.SMB2_CLOSE, _CLOSE),
    )
    requests = connection.send_compound(
        messages, session.session_id, tree.tree_connect_id, related=True
    )
    answers: list[bytes] = []
    errors: list[SMBResponseException] = []
    for request in requests:
        try:
            answers.append(connection.receive(request)["data"].get_value())
        except SMBResponseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    _, at, length = struct.unpack_from("<HHI", answers[1])
    data = answers[1][at - 64 :][:length]  # counted from the header's first byte
    if at < 72 or len(data) < length:
        raise ValueError("a security descriptor that is cut off")
    return data


def _copy(tree: TreeConnect, path: str, listed: Entry) -> BinaryIO:
    if listed.size_bytes > FILE_BYTES:
        raise TooLarge(f"{path} が大きすぎます (上限 {FILE_BYTES // 1_000_000:,} MB)。")
    connection = tree.session.connection
    options = CreateOptions.FILE_NON_DIRECTORY_FILE | CreateOptions.FILE_SEQUENTIAL_ONLY
    opened = _opened(path, tree, options)
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
    try:
        try:
            _steady(opened, path, listed)
            at = 0
            while at < listed.size_bytes:
                data = opened.read(at, min(_block(connection), listed.size_bytes - at))
                if not data:
                    raise _changing(path)
                copy.write(data)
                at += len(data)
            opened.close(get_attributes=True)
            _steady(opened, path, listed)
        except SMBResponseException as error:
            if error.status != NtStatus.STATUS_END_OF_FILE:
                raise
            raise _changing(path) from None
        finally:
            _closed(opened)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def _block(connection: Signed) -> int:
    """Bytes that may be asked for at once: 64 KiB for each credit that the server gave."""
    window = connection.sequence_window
    credits = window["high"] - window["low"] if connection.supports_multi_credit else 1
    return int(min(READ_BYTES, connection.max_read_size, 65536 * max(1, credits)))


def _steady(opened: Open, path: str, listed: Entry) -> None:
    if (opened.end_of_file, opened.last_write_time) != (listed.size_bytes, moment(listed.written)):
        raise _changing(path)


def _changing(path: str) -> SourceBusy:
    return SourceBusy(f"{path} は書き込み中です。次の確認で読み直します。")


def _closed(opened: Open) -> None:
    """Given back, also where the connection is past using."""
    try:
        opened.close()
    except _BROKEN:
        opened._connected = False
