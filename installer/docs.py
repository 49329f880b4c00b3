"""The tables in the documents, written from the code they describe.

    python -m installer.docs            write them
    python -m installer.docs --check    only say which are no longer true

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; NAME is a row of TABLES.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_TABLE = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the generated tables of the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if one is stale")
    check = parser.parse_args().check
    stale = outdated()
    for page, text in stale.items():
        print(f"{'stale' if check else 'written'}: {page.relative_to(ROOT)}")
        if not check:
            page.write_text(text, "utf-8")
    if check and stale:
        raise SystemExit("run `python -m installer.docs` and commit what it writes")


def pages() -> list[Path]:
    """Every document of the repository, the sample company's own ones aside."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def outdated() -> dict[Path, str]:
    """Pages whose tables are not what the code says, with the text they should have."""
    found = {page: page.read_text("utf-8") for page in pages()}
    return {page: new for page, text in found.items() if (new := written(text)) != text}


def written(text: str) -> str:
    """A page with its tables made anew. Raises KeyError for a name that is no table."""
    return _TABLE.sub(lambda m: f"{m[1]}\n{TABLES[m['name']]()}\n{m[3]}", text)


# --- tables -------------------------------------------------------------------------


def settings() -> str:
    from appliance.settings import Settings

    rows = []
    for f in fields(Settings):
        default = "" if str(f.default) in ("", ".") else f"`{f.default}`"
        rows.append(
            (
                f"`{f.name}`",
                f"`KURA_{f.name.upper()}`",
                default,
                f.metadata["unit"],
                f.metadata["sentence"],
            )
        )
    return table(("setting", "environment", "default", "unit", "what it does"), rows)


def errors() -> str:
    """Every class of the tree, with what the API makes of it."""
    from appliance import errors as tree
    from appliance.api.errors import row

    rows = []
    for kind, depth in _below(tree.ApplianceError):
        if kind is tree.PromptTooLong:
            error: Exception = tree.PromptTooLong(0, 0)
        else:
            error = kind()
        answer = row(error)
        again = isinstance(error, tree.Transient | tree.TooManyAttempts)
        rows.append(
            (
                f"{'· ' * depth}`{kind.__name__}`",
                str(answer.status),
                "`Retry-After`" if again else "",
                answer.message,
                answer.message_en,
            )
        )
    return table(("class", "status", "again", "メッセージ", "message"), rows)


def api() -> str:
    from appliance.api import deps, openapi

    described = openapi()["paths"]
    who = {
        (method.lower(), path): deps.policies(route)[0]
        for path, route in _routes()
        for method in route.methods
    }
    rows = []
    for path, methods in described.items():
        for method, facts in methods.items():
            policy = who[(method, path)]
            said = str(facts.get("description") or facts["summary"].capitalize()).splitlines()[0]
            key = f"`{policy.key}`" if policy.key else ""
            rows.append((f"`{method.upper()} {path}`", policy.role, key, said))
    return table(("endpoint", "who", "key scope", "what it does"), rows)


def formats() -> str:
    from appliance.formats import PARSERS

    rows = []
    for media_type, parse in PARSERS.items():
        module = inspect.getmodule(parse)
        assert module is not None
        file = Path(str(module.__file__)).relative_to(ROOT).as_posix()
        said = _first(parse.__doc__) or _first(module.__doc__)
        rows.append((f"`{media_type}`", f"`{file}`", said))
    return table(("media type", "parser", "what becomes of it"), rows)


def connectors() -> str:
    from appliance.ports import Unverified
    from connectors import english
    from connectors.kinds import CONNECTORS

    rows = []
    for kind in CONNECTORS:
        schema = english.beside(kind.Settings.model_json_schema())
        required = set(schema.get("required", ()))
        what = english.of(_first(kind.__doc__))
        if isinstance(kind, Unverified):
            what += " (not verified against the real service)"
        for name, fact in schema["properties"].items():
            given = "yes" if name in required else ""
            said = f"{fact['title_en']}: {fact.get('description_en', '')}".strip(": ")
            rows.append((f"`{kind.kind}`", what, f"`{name}`", given, said))
    return table(("kind", "what it is", "setting", "required", "meaning"), rows)


def commands() -> str:
    """Every command of `kura` with its options, in the words of its own help."""
    rows = []
    for path, command in command_tree():
        shown = [f"`kura {path}`"]
        shown += [f"`{_usage(p)}`" for p in command.params if not getattr(p, "hidden", False)]
        said = str(command.help or "").splitlines()
        rows.append((" ".join(shown), said[0] if said else ""))
    return table(("コマンド", "すること"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "errors": errors,
    "api": api,
    "formats": formats,
    "connectors": connectors,
    "commands": commands,
}


# --- what they are made from --------------------------------------------------------


def command_tree() -> Iterator[tuple[str, Any]]:
    """`kura`'s commands by the words that call them: ("source add", its command), …"""
    import typer.main

    from appliance.cli import app

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
            return
        for name, child in inner.items():
            if not child.hidden:  # for programs
                yield from walk(f"{words} {name}".strip(), child)

    return walk("", typer.main.get_command(app))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, with an empty line before and after."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(c) for c in line)} |\n" for line in lines)


def _routes() -> Iterator[tuple[str, Any]]:
    from appliance.api import PREFIX, ROUTERS, openai, uploads

    for prefix, routers in ((PREFIX, (*ROUTERS, uploads.router)), ("", (openai.router,))):
        for router in routers:
            for route in router.routes:
                yield f"{prefix}{getattr(route, 'path')}", route  # noqa: B009 - BaseRoute has none


def _below(kind: type[Any], depth: int = 0) -> Iterator[tuple[type[Any], int]]:
    for child in kind.__subclasses__():
        if child.__module__ == "appliance.errors":
            yield child, depth
            yield from _below(child, depth + 1)


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    names = [n for n in (*parameter.opts, *parameter.secondary_opts) if n.startswith("-")]
    return "/".join(names)


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
