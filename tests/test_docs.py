"""The documents are true: tables, links, names, commands, requests and programs in them."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
import yaml
from sqlmodel import SQLModel

from appliance import build
from appliance.api import serve
from appliance.identity import accounts, keys
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedGenerator
from appliance.types import Document, Failed, Layer, Principal, RawFile
from connectors.folder import FolderConnector, FolderSettings
from installer import docs
from installer.bundle.debs import NEEDED
from installer.deploy import answers

ROOT = docs.ROOT
ADDRESS = "http://127.0.0.1:8400"
NAMING = ("ARCHITECTURE.md", "SECURITY.md", "docs/en/developing.md")  # every name is checked
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"[\w./{}*-]+(?:/|\.(?:py|md|toml|json|yaml|ts|tsx|lock|sh|ini))")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def every_page() -> list[str]:
    return [p.relative_to(ROOT).as_posix() for p in docs.pages()]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    for name in every_page():
        for language, code in _FENCE.findall(page(name)):
            if language in languages:
                yield name, code


# --- tables -------------------------------------------------------------------------


def test_the_tables_say_what_the_code_says() -> None:
    assert [p.name for p in docs.outdated()] == []


def test_every_table_is_somewhere() -> None:
    everything = "".join(map(page, every_page()))
    assert {n for n in docs.TABLES if f"<!-- table: {n} -->" not in everything} == set()


def test_a_stale_table_is_noticed() -> None:
    stale = "<!-- table: settings -->\n\n| setting |\n\n<!-- /table -->"
    fresh = docs.written(stale)
    assert "`KURA_WEB_PORT`" in fresh
    assert docs.written(fresh) == fresh
    with pytest.raises(KeyError):
        docs.written("<!-- table: no-such -->\n<!-- /table -->")


def test_a_cell_cannot_end_its_row() -> None:
    made = docs.table(("a",), [("one | two\nthree",)])
    assert made == "| a |\n| --- |\n| one \\| two three |\n"


# --- links --------------------------------------------------------------------------


@pytest.mark.parametrize("name", every_page())
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(name, page(name)) == []


def test_a_broken_link_is_noticed() -> None:
    text = "# a\n[x](README.md) [y](nowhere.md) [z](#a) [w](#b) [v](README.md#nowhere)"
    assert broken_links("CHANGELOG.md", text) == ["nowhere.md", "#b", "README.md#nowhere"]


def broken_links(name: str, text: str) -> list[str]:
    found = []
    for link in _LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = ROOT / name if not path else (ROOT / name).parent / path
        inside = text if not path else target.read_text("utf-8") if target.is_file() else ""
        if not target.exists() or (anchor and anchor not in anchors(inside)):
            found.append(link)
    return found


def anchors(text: str) -> set[str]:
    """The names that headings can be linked by."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.strip().lower()).replace(" ", "-") for t in titles}


# --- names --------------------------------------------------------------------------


@cache
def names() -> dict[Path, frozenset[str]]:
    """What each of our Python files defines: `name`, and `Class.name`."""
    found = {}
    for folder in ("appliance", "connectors", "installer", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            found[file] = frozenset(defined(ast.parse(file.read_text("utf-8"))))
    return found


def defined(node: ast.AST, prefix: str = "") -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name):
                yield prefix + name
                yield from defined(child, f"{prefix}{name}.")
            case ast.Assign(targets=targets):
                for target in targets:
                    yield from (prefix + n.id for n in ast.walk(target) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


@cache
def text_of_ours() -> str:
    files = [f for f in names() if f != Path(__file__)]
    files += [f for f in (ROOT / "ui" / "src").rglob("*.ts*") if f.is_file()]
    return "\n".join(f.read_text("utf-8") for f in files)


@cache
def words() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text_of_ours()))


def unknown(code: str) -> str | None:
    """Why a piece of inline code names nothing of ours, or None."""
    path, colons, name = code.partition("::")
    if colons or _FILE.fullmatch(code):
        target = next((p for p in (ROOT / path, ROOT / "appliance" / path) if p.exists()), None)
        if target is None:
            return None if code in text_of_ours() else f"there is no {path}"
        if colons and name not in names().get(target, ()):
            return f"{path} has no {name}"
        return None
    if not _NAME.fullmatch(code):
        return None  # a command, a route, a piece of text
    first, _, rest = code.partition(".")
    if not rest:
        return None if code in words() else f"nothing is called {code}"
    if modules := [f for f in names() if f.stem == first]:
        return None if any(rest in names()[f] for f in modules) else f"{first} has no {rest}"
    return None if any(code in d for d in names().values()) else f"nothing is called {code}"


@pytest.mark.parametrize("name", NAMING)
def test_names_in_prose_are_names_in_the_code(name: str) -> None:
    found = _CODE.findall(prose(page(name)))
    assert len(found) > 20
    assert {c: why for c in found if (why := unknown(c))} == {}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("store/access.py::passages", "store/access.py::no_such"),
        ("search/follow.py::Follower.reconcile", "search/follow.py::Follower.nothing"),
        ("connectors/folder.py", "connectors/ftp.py"),
        ("catalog.replace", "catalog.no_such"),
        ("Follower.catch_up", "Follower.catch_down"),
        ("ScopeMap", "ScopeMapOfNobody"),
    ],
)
def test_a_wrong_name_is_noticed(good: str, bad: str) -> None:
    assert unknown(good) is None
    assert unknown(bad) is not None


def test_each_invariant_names_its_function_and_its_test() -> None:
    rows = re.findall(r"^\| \*\*(\d)\.", page("SECURITY.md"), re.MULTILINE)
    assert rows == list("12345678")
    for line in page("SECURITY.md").splitlines():
        if re.match(r"\| \*\*\d\.", line):
            found = [code for code in _CODE.findall(line) if "::" in code]
            assert [c for c in found if not c.startswith("tests/")], line
            assert [c for c in found if c.startswith("tests/") and "test_" in c], line


# --- commands and requests ----------------------------------------------------------


def lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as words, without prompts, comments and variables before."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words:
            yield words


def shell() -> list[tuple[str, list[str]]]:
    return [(name, line) for name, code in blocks("sh") for line in lines(code)]


def test_commands_of_kura_exist_with_their_options() -> None:
    found = [(n, w[1:]) for n, w in shell() if w[0] in ("kura", ".venv/bin/kura")]
    assert len(found) > 10
    assert [why for name, line in found if (why := refused(line, name))] == []


def test_a_wrong_command_is_noticed() -> None:
    assert refused(["status", "--json"], "") is None
    assert refused(["status", "--yaml"], "") is not None
    assert refused(["ask", "質問"], "") is not None  # whose rights?
    assert refused(["dance"], "") is not None


def refused(line: list[str], name: str) -> str | None:
    """Why `kura` would not take these words, or None. Nothing is run."""
    commands = dict(docs.command_tree())
    for count in (2, 1):
        if (command := commands.get(" ".join(line[:count]))) is not None:
            try:
                command.make_context("kura", line[count:])
            except Exception as error:  # noqa: BLE001 - typer keeps its classes to itself
                return f"{name}: kura {shlex.join(line)}: {error!r}"
            return None
    return f"{name}: there is no `kura {shlex.join(line)}`"


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    used = {w for _, line in shell() if line[0] == "make" for w in line[1:] if "=" not in w}
    assert {"demo", "test", "check"} <= used
    assert used <= targets


@dataclass(frozen=True)
class Live:
    url: str
    key: str


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A machine on loopback with one document, for whoever asks with its key."""
    settings = Settings(
        data=tmp_path_factory.mktemp("docs") / "data",
        follow_seconds=0.05,
        evidence_threshold=0.01,
    )
    engine = build.store(settings)
    assert SQLModel.metadata.tables
    machine = build.web(
        settings,
        engine=engine,
        embedder=HashEmbedder(),
        generator=ScriptedGenerator("一泊", "一万円です[1]。"),
    )
    accounts.create(engine, "portal", "社内ポータル", "administrator", "portal の合言葉")
    scopes = ("query", "search", "documents", "admin")
    _, secret = keys.issue(engine, "docs", "portal", scopes, created_by="test")
    text = "国内出張の宿泊費の上限は一泊一万円とする。"
    everyone = (Layer(frozenset({Principal("everyone")})),)
    source = sources.create(engine, "総務部", "memory", {})

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    connector = MemoryConnector({"旅費規程.txt": (text, everyone)})
    sync(engine, source, connector, machine.embedder, parse, settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        object.__setattr__(machine, "settings", replace(settings, web_port=port))
        machine.follower.start()
        assert machine.follower.wait(20)
        serving = serve.server(machine)
        thread = threading.Thread(target=serving.run, args=([listening],), daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        yield Live(f"http://127.0.0.1:{port}", secret)
        serving.should_exit = True
        thread.join(10)
    machine.follower.close()
    engine.dispose()
    assert not thread.is_alive()


def requests() -> list[tuple[str, list[str]]]:
    """Those that ask Kura itself; what asks through a proxy is in test_manuals.py."""
    return [(n, line) for n, line in shell() if line[0] == "curl" and "--cacert" not in line]


@pytest.mark.parametrize(("name", "line"), requests())
def test_requests_are_answered(name: str, line: list[str], live: Live) -> None:
    response = curl(line, live)
    assert response.status_code in (200, 201, 202), f"{name}: {response.text}"
    assert "一万円" in response.text or "/query" not in str(response.url)


def test_there_are_requests_in_both_readmes() -> None:
    assert {"README.md", "README.ja.md"} <= {name for name, _ in requests()}


def curl(line: list[str], live: Live) -> httpx2.Response:
    """What curl would send, with the few options our documents use."""
    method, url, headers, data, form = "", "", {}, None, {}
    words = iter(line[1:])
    for word in words:
        match word:
            case "-s" | "-N" | "-sN" | "-f":
                pass
            case "-X":
                method = next(words)
            case "-H":
                key, _, value = next(words).partition(":")
                headers[key] = value.strip().replace("$KURA_KEY", live.key)
            case "-d":
                data = next(words)
            case "-F":
                key, _, value = next(words).partition("=")
                form[key] = value
            case _ if word.startswith(ADDRESS):
                url = live.url + word.removeprefix(ADDRESS)
            case _:
                raise AssertionError(f"curl {word}: teach this test what it means")
    sent: dict[str, Any] = {"content": data} if data else {}
    if form:
        name = Path(form["file"].removeprefix("@")).name
        sent["files"] = {"file": (name, io.BytesIO("見積は百万円です。".encode()))}
        sent["data"] = {k: v for k, v in form.items() if k != "file"}
    method = method or ("POST" if sent else "GET")
    with httpx2.Client(timeout=20, trust_env=False) as http:
        return http.request(method, url, headers=headers, **sent)


# --- programs and files ----------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), list(blocks("python")))
def test_programs_run(
    name: str, code: str, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KURA_KEY", live.key)
    for variable in [v for v in os.environ if v.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    exec(compile(code.replace(ADDRESS, live.url), name, "exec"), {"__name__": "example"})


def test_there_is_a_program_in_both_readmes() -> None:
    assert {"README.md", "README.ja.md"} <= {name for name, _ in blocks("python")}


@pytest.mark.parametrize(("name", "code"), list(blocks("toml")))
def test_toml_is_what_the_product_reads(name: str, code: str, tmp_path: Path) -> None:
    said = tomllib.loads(code)
    if {"allow", "deny"} & set(said):
        (tmp_path / ".kura-access.toml").write_text(code, "utf-8")
        found = FolderConnector(FolderSettings(root=tmp_path)).changes(None)
        assert not [c for c in found if isinstance(c, Failed)], name
    elif {"name", "certificate"} & set(said):  # of /etc/kura/install.toml; others are refused
        assert answers.of(said).settings.keys() == {k.upper() for k in said.get("settings", {})}
    else:
        from appliance import settings

        (tmp_path / "kura.toml").write_text(code, "utf-8")
        read = settings.load({"KURA_CONFIG": str(tmp_path / "kura.toml")})
        assert all(str(getattr(read, key)) == str(value) for key, value in said.items())


@pytest.mark.parametrize(("name", "code"), list(blocks("json")))
def test_json_is_json(name: str, code: str) -> None:
    assert json.loads(code)


def test_compose_lets_people_in_by_a_door_and_nothing_out() -> None:
    compose = yaml.safe_load(page("compose.yaml"))
    ours = dict(compose["services"])
    door = ours.pop("door")
    assert {n: s["command"] for n, s in ours.items()} == {
        n: ["kura", n] for n in ("web", "work", "infer")
    }
    for name, service in ours.items():
        assert "data:/data" in service["volumes"]
        assert service["healthcheck"]["test"][-1] == name
    for service in (door, *ours.values()):
        assert service["image"] == door["image"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert ours["infer"]["networks"] == ["alone"]
    assert [n for n, s in ours.items() if "alone" in s["networks"]] == ["infer"]
    assert compose["networks"]["alone"]["internal"] is True
    assert ours["work"]["networks"] == ours["web"]["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    assert not any("ports" in service for service in ours.values())
    assert not {"volumes", "environment"} & set(door)  # who can call out has nothing to say
    assert door["ports"][0].startswith("${KURA_LISTEN:-127.0.0.1:")  # until somebody says so
    more = yaml.safe_load(page("compose.postgres.yaml"))["services"]
    assert set(more) == {"db", "web", "work"}
    assert more["db"]["networks"] == ["inside"]


def test_variables_of_compose_are_settings() -> None:
    used = set(re.findall(r"^\s+KURA_([A-Z_]+):", page("compose.yaml"), re.MULTILINE))
    used |= set(re.findall(r"\bKURA_([A-Z_]+)=", page("Containerfile")))
    assert used
    assert {u.lower() for u in used} <= set(Settings.__dataclass_fields__)


def test_the_image_has_what_a_host_has() -> None:
    text = page("Containerfile").replace("\\\n", " ")
    (asked,) = re.findall(r"-y \$only install ([a-z0-9. +-]+?) +&&", text)
    # the walls of a container are its engine's
    assert set(asked.split()) == set(NEEDED) - {"nftables"}
    made = text[text.index("-m venv") :]
    for word in ("--no-index", "--no-deps", "--require-hashes", "--only-binary :all:"):
        assert word in made


def test_hooks_are_local_and_run_what_is_here() -> None:
    hooks = yaml.safe_load(page(".pre-commit-config.yaml"))
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_the_licences_of_what_comes_along_are_named() -> None:
    from appliance.inference import models

    notice = page("NOTICE")
    missing = [
        m.name
        for m in models.catalogue()
        if m.name not in notice.replace("Gemma 3 270M", "gemma-3-270m")
    ]
    assert missing == []
    assert "Gemma Terms of Use" in notice
    assert "Apache License" in page("LICENSE")
