"""A file's kind is in its bytes; its name only parts text from text."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.formats import PARSERS, detect, kinds
from appliance.formats.kinds import DOCX, PDF, PPTX, XLSX

MAIL = b"From: a@x\r\nTo: b@x\r\nMIME-Version: 1.0\r\n\r\nbody"


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"<!DOCTYPE html><html>", "a.txt", "text/html"),
        (b"\xef\xbb\xbf  <HTML>", "", "text/html"),
        ("<!DOCTYPE html><html>".encode("utf-16"), "a.txt", "text/html"),
        (b"<html></html>", "a.pdf", "text/html"),
        (b"%PDF-1.7\n", "a.txt", PDF),
        (b"junk\n%PDF-1.4", "a", PDF),
        (MAIL, "a.txt", "message/rfc822"),
        (b"From: a\nTo: b\nSubject: c\n\nx", "memo.txt", "text/plain"),
        (b"From: a\nTo: b\nSubject: c\n\nx", "memo.eml", "message/rfc822"),
        (b"a,b\n", "a.csv", "text/csv"),
        (b"# t\n", "a.MD", "text/markdown"),
        (b"hello", "a.docx", "text/plain"),
        (b"hello", "", "text/plain"),
        (b"\x89PNG\r\n\x1a\n", "a.txt", "image/png"),
        (b"PK\x03\x04....other", "a.docx", "application/zip"),
        (b"PK\x03\x04....a.pdf%PDF-1.7\n", "a.zip", "application/zip"),
        (b"a.pdf".ljust(257, b"\0") + b"ustar".ljust(255, b"\0") + b"%PDF-1.7\n", "", kinds.TAR),
    ],
)
def test_by_content(head: bytes, name: str, kind: str) -> None:
    assert detect(head, name) == kind


@pytest.mark.parametrize(
    ("name", "kind"), [("規程.docx", DOCX), ("台帳.xlsx", XLSX), ("提案.pptx", PPTX)]
)
def test_office_files_by_their_members_whatever_the_name(
    corpus: Path, sandbox, raw, name: str, kind: str
) -> None:
    assert sandbox.parse(raw((corpus / name).read_bytes(), "wrong.txt"))[1] == kind


def test_every_kind_a_company_has_is_read() -> None:
    assert {
        PDF,
        DOCX,
        XLSX,
        PPTX,
        "text/html",
        "text/markdown",
        "text/csv",
        "text/plain",
        "message/rfc822",
    } <= set(PARSERS)


def test_a_new_format_has_a_new_edition() -> None:
    """Else nobody would try again what could not be read: say here what the edition reads."""
    assert kinds.EDITION == "10"
    assert len(PARSERS) == 35
