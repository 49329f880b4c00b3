"""A child lives for one file: what it would compile anew each time is compiled before the fork."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance.formats

FORMATS = Path(appliance.formats.__file__).parent


def late(source: str) -> Iterator[str]:
    """Calls of `re` in a function whose pattern was known when its module was read."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name("re"), attr=name), args=[pattern, *_]
                    ) if name != "escape" and _known(pattern):
                        yield ast.unparse(node)


def _known(pattern: ast.expr) -> bool:
    match pattern:
        case ast.Constant():
            return True
        case ast.JoinedStr(values=values):
            return all(_known(v) for v in values)
        case ast.FormattedValue(value=ast.Name(id=name)):
            return name.isupper()
    return False


def test_no_parser_compiles_what_it_knew_before() -> None:
    found = {
        f"{path.name}: {call}"
        for path in FORMATS.glob("*.py")
        for call in late(path.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "line", ['re.findall(f"[{_CJK}]+", x)', 're.split(rb"\\n", x)', 're.compile("a")']
)
def test_each_is_seen(line: str) -> None:
    assert list(late(f"def f(x):\n    return {line}"))


@pytest.mark.parametrize("line", ['re.compile(f"[{x}]")', "re.compile(x)", "_WORD.findall(x)"])
def test_what_a_file_says_is_let_through(line: str) -> None:
    assert not list(late(f"def f(x):\n    return {line}"))
