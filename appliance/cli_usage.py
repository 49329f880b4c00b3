"""What a wrong command line is answered with: one sentence in Japanese, and where to look."""

from __future__ import annotations

import re
from typing import Any

import typer

_NO_COMMAND = re.compile(r"No such command '(.*?)'\.(?: Did you mean (.*)\?)?")
_EXTRA = re.compile(r"Got unexpected extra argument\(s\) \((.*)\)")
_TYPES = {"int": "整数", "float": "数", "path": "ファイルかフォルダーの場所"}


def said(error: typer.TyperException) -> str:
    """Of what typer raises for a command line that it cannot take; the help, for an empty one."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.message
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "kura"
    return f"kura: {_what(error)}。使い方は `{command} --help` が示します。"


def _what(error: Any) -> str:
    # only one of these classes has a public name
    kind = type(error).__name__
    if kind == "MissingParameter":
        return f"{_named(error.param)} を指定してください"
    if kind == "BadParameter" and error.param:
        return f"{_named(error.param)} に書けるのは、{_takes(error)}です"
    if kind == "NoSuchOption":
        near = sorted(error.possibilities or ())
        return f"{error.option_name} というオプションはありません{_near(near)}"
    if kind == "BadOptionUsage":
        wants = "requires" in error.message
        return f"{error.option_name} には値を" + ("続けて書いてください" if wants else "書けません")
    if found := _NO_COMMAND.fullmatch(error.message):
        near = re.findall("'(.*?)'", found[2] or "")
        return f"{found[1]} というコマンドはありません{_near(near)}"
    if found := _EXTRA.fullmatch(error.message):
        return f"余分な言葉があります（{found[1]}）"
    return str(error.message).rstrip(".")


def _near(names: list[str]) -> str:
    return f"（近いのは {'、'.join(names)}）" if names else ""


def _named(param: Any) -> str:
    """An option as it is typed, an argument as the help shows it."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.display_name_raw)


def _takes(error: Any) -> str:
    shown = error.param.display_type(error.ctx).strip("<>")
    if "|" in shown:
        return "、".join(shown.split("|")) + " のどれか"
    kind: str = shown.removesuffix(" range")
    return _within(error.param.min, error.param.max) + _TYPES.get(kind, kind)


def _within(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least} から {most} までの"
    return f"{least} 以上の" if least is not None else f"{most} 以下の" if most is not None else ""
