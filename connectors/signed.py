"""A connection of SMB 2 and 3 that believes only what is signed or encrypted.

The library behind it checks a signature where an answer says that it bears one, looks names up by
itself, waits for ever, follows the server's links, and takes frames of any length. Not here.
"""

from __future__ import annotations

import socket
import uuid
from typing import cast

from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException
from smbprotocol.header import Commands, NtStatus
from smbprotocol.transport import Tcp

FRAME_BYTES = 16_777_215  # of one answer


class Unsigned(SMBException):  # type: ignore[misc]
    """An answer that is not from the server, as far as we can tell."""


class Wire(Tcp):  # type: ignore[misc]
    """A line that is open already; the library's own would look the name up again."""

    def __init__(self, line: socket.socket, host: str, port: int) -> None:
        super().__init__(host, port)
        line.settimeout(None)
        self._sock = line

    def connect(self) -> None:
        self.connected = True

    def end(self) -> None:
        """From any thread, holding no lock: the thread that listens closes it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._sock.close()

    def _recv(self, length: int, timeout: float) -> tuple[bytes | None, float]:
        if length > FRAME_BYTES:
            raise SMBException(f"an answer of {length} bytes")
        return cast(tuple[bytes | None, float], super()._recv(length, timeout))


class Signed(Connection):  # type: ignore[misc]
    """Believes no answer that is not signed, waits for none for ever, and follows no link."""

    def __init__(self, wire: Wire, host: str, port: int, timeout_s: float) -> None:
        self._wire = wire
        self._timeout_s = timeout_s
        super().__init__(uuid.uuid4(), host, port, require_signing=True)

    @property
    def transport(self) -> Wire:
        return self._wire

    @transport.setter
    def transport(self, made: object) -> None:
        """The library would make one of its own."""

    def receive(
        self,
        request: object,
        wait: bool = True,
        timeout: float | None = None,
        resolve_symlinks: bool = False,
    ) -> object:
        return super().receive(request, wait, timeout or self._timeout_s, resolve_symlinks=False)

    def verify_signature(
        self, header: dict[str, object], session_id: int, force: bool = False
    ) -> None:
        """Of every answer that was not decrypted; the library passes over one that says it bears none."""
        session = self.session_table.get(session_id)
        command = header["command"].get_value()  # type: ignore[attr-defined]
        status = header["status"].get_value()  # type: ignore[attr-defined]
        asked = command != Commands.SMB2_SESSION_SETUP and status != NtStatus.STATUS_PENDING
        try:
            super().verify_signature(header, session_id, force or (session is not None and asked))
        except SMBException as error:
            raise Unsigned(str(error)) from None
