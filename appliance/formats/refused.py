"""Files that are known and cannot be read: each says why, and what a person can do."""

from __future__ import annotations

from typing import BinaryIO, NoReturn

from appliance.errors import PasswordNeeded, Unreadable


def encrypted(stream: BinaryIO) -> NoReturn:
    raise PasswordNeeded("パスワードが必要です")


def docuworks(stream: BinaryIO) -> NoReturn:
    raise Unreadable("DocuWorks 文書です (DocuWorks で PDF に変換して置いてください)")


def rar(stream: BinaryIO) -> NoReturn:
    raise Unreadable(
        "RAR の圧縮ファイルは読めません (中身を取り出し、zip で圧縮し直して置いてください)"
    )


def unknown_office(stream: BinaryIO) -> NoReturn:
    raise Unreadable(
        "読めない種類の OLE 文書です (PDF か .docx・.xlsx・.pptx で保存し直してください)"
    )
