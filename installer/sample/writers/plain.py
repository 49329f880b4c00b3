"""Text as it stands, in its encoding; CRLF where the encoding is that of Windows."""

from __future__ import annotations

from installer.sample.sources import Source


def write(source: Source) -> bytes:
    encoding = source.fields.get("encoding", "utf-8")
    body = source.body.replace("\n", "\r\n") if encoding == "cp932" else source.body
    return body.encode(encoding)
