"""Files that are known and cannot be read: each says why, and what a person can do."""

from __future__ import annotations

from typing import BinaryIO, NoReturn

from appliance.errors import PasswordNeeded, Unreadable


def encrypted(stream: BinaryIO) -> NoReturn:
    raise PasswordNeeded("パスワードが必要です")


def old_office(stream: BinaryIO) -> NoReturn:
    raise Unreadable("旧形式の Office 文書です (.docx・.xlsx・.pptx で保存し直してください)")
