"""What only the site can say: a file of answers (TOML), or a person at the terminal.

Everything is checked before anything is done, so a wrong answer costs a sentence and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from installer.steps import Refused

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")  # RFC 1918, RFC 4193
REACHING = ("web", "work")
OURS = frozenset(
    {"DATA", "MODELS", "WEB_HOST", "WEB_PORT", "PUBLIC_ORIGIN", "TLS_CERTIFICATE", "TLS_KEY"}
)
TRUE = frozenset({"1", "true"})  # as appliance/settings.py reads them
PASSWORD_CHARS = 12
_WEAK = re.compile(r"(kura|postgres|password|passwd|admin|secret|changeme|test|qwerty|\d)+\W*")
_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


@dataclass(frozen=True)
class Answers:
    name: str = field(
        default="", metadata={"asked": "利用者がブラウザーで開く名前 / the name people open"}
    )
    listen: str = field(
        default="0.0.0.0",  # noqa: S104 - the firewall says who may come
        metadata={"asked": "待ち受けるアドレス / the address to listen on"},
    )
    port: int = field(default=443, metadata={"asked": "ポート / port"})
    clients: tuple[str, ...] = field(
        default=PRIVATE,
        metadata={"asked": "利用者がいるネットワーク / networks of those who use it"},
    )
    certificate: str = field(
        default="",
        metadata={
            "asked": "TLS 証明書 (PEM)。空なら自己署名で作ります / certificate; empty makes one"
        },
    )
    key: str = field(default="", metadata={"asked": "その鍵 (PEM) / its key"})
    database_url: str = field(
        default="",
        metadata={
            "asked": "データベース。空なら SQLite、または postgresql+psycopg://… / empty is SQLite"
        },
    )
    reach: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    gpu: bool = False

    @property
    def sealed(self) -> bool:
        return self.settings.get("SEALED", "").lower() in TRUE

    @property
    def origin(self) -> str:
        shown = f"[{self.name}]" if ":" in self.name else self.name
        return f"https://{shown}{'' if self.port == 443 else f':{self.port}'}"


def split(one: str) -> tuple[str, int]:
    """`10.0.0.0/8`, `10.1.2.3:445`, `[fd00::1]:445` -> network and port, 0 for any. Raises Refused."""
    text, port = one, ""
    if one.startswith("["):
        text, _, port = one[1:].partition("]")
        port = port.removeprefix(":")
    elif one.count(":") == 1:
        text, _, port = one.partition(":")
    try:
        network = ipaddress.ip_network(text, strict=False)
        number = int(port) if port else 0
        if not 0 <= number <= 65535:
            raise ValueError(port)
    except ValueError:
        raise Refused(
            f"「{one}」は IP アドレスかネットワーク（ポートは :445 のように）で書いてください。名前は書けません。"
            f" / {one!r}: an IP address or a network, with :port or without; no names."
        ) from None
    return str(network), number


def read(path: Path) -> Answers:
    """Raises Refused, naming the line's key and what it should be."""
    try:
        told = tomllib.loads(path.read_text("utf-8"))
        mode = path.stat().st_mode
    except OSError as error:
        raise Refused(
            f"回答ファイル {path} を読めません / cannot be read: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"回答ファイル {path} は TOML ではありません / is no TOML: {error}") from None
    answers = of(told)
    secret = answers.database_url or any("PASSWORD" in k or "KEY" in k for k in answers.settings)
    if secret and stat.S_IMODE(mode) & 0o077:
        raise Refused(
            f"回答ファイル {path} にはパスワードがあり、ほかの利用者も読めます。chmod 600 {path}"
            " / It holds a password and others can read it."
        )
    return answers


def of(told: dict[str, Any]) -> Answers:
    known = {f.name: f for f in fields(Answers)}
    if unknown := sorted(set(told) - set(known)):
        raise Refused(
            f"知らない回答です: {', '.join(unknown)}。使えるのは {', '.join(known)}。 / unknown answers"
        )
    given: dict[str, Any] = {}
    for name, value in told.items():
        default = _default(name)
        if isinstance(default, tuple) and isinstance(value, list):
            given[name] = tuple(str(one) for one in value)
        elif name == "reach" and isinstance(value, dict):
            given[name] = {
                k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in value.items()
            }
        elif name == "settings" and isinstance(value, dict):
            given[name] = {k.upper().removeprefix("KURA_"): _plain(v) for k, v in value.items()}
        elif type(value) is type(default):
            given[name] = value
        else:
            raise Refused(
                f"{name} = {value!r} は {type(default).__name__} ではありません / has the wrong type"
            )
    return checked(Answers(**given))


def checked(answers: Answers) -> Answers:
    """The same, once everything in them can be used. Raises Refused."""
    if not answers.name:
        answers = replace(answers, name=socket.gethostname())  # asks nobody
    if not (_NAME.fullmatch(answers.name) or _address(answers.name)):
        raise Refused(
            f"name = 「{answers.name}」は使えません。kura.example.co.jp のように書いてください。"
            " / name: a host name or an address."
        )
    if not _address(answers.listen):
        raise Refused("listen は IP アドレスで書いてください。 / listen: an IP address.")
    if not 1 <= answers.port <= 65535:
        raise Refused("port は 1〜65535 です。 / port: 1 to 65535.")
    for network in answers.clients:
        if split(network)[1]:
            raise Refused(
                f"clients: 「{network}」にポートは書けません。 / clients: networks without port."
            )
    for process, hosts in answers.reach.items():
        if process not in REACHING or not isinstance(hosts, tuple):
            raise Refused(
                f'[reach] は web = ["…"] と work = ["…"] です。 / [reach] has web and work, not {process}.'
            )
        for one in hosts:
            split(one)
    if bool(answers.certificate) != bool(answers.key):
        raise Refused(
            "certificate と key は両方書くか、両方空にしてください。 / certificate and key: both or neither."
        )
    if answers.database_url:
        _database(answers.database_url)
    for name, value in answers.settings.items():
        if name in OURS or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise Refused(
                f"[settings] {name} は導入プログラムが決めます。 / [settings] {name} is set by the installer."
            )
        if "'" in value or not value.isprintable():
            raise Refused(f"[settings] {name}: ' と改行は使えません。 / neither ' nor line breaks.")
    return answers


def _database(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, password = parts.hostname or "", unquote(parts.password or "")
        usable = parts.scheme == "postgresql+psycopg" and bool(parts.path.strip("/"))
    except ValueError:
        usable = False
    if not usable or "'" in url or not url.isprintable():
        raise Refused(
            "database_url は postgresql+psycopg://利用者:パスワード@ホスト/データベース の形です。"
            " / database_url: postgresql+psycopg://user:password@host/database"
        )
    if host and (len(password) < PASSWORD_CHARS or _WEAK.fullmatch(password.lower())):
        raise Refused(
            f"データベースのパスワードが空か弱すぎます。{PASSWORD_CHARS} 文字以上の、推測できないものにしてください"
            "（例: openssl rand -base64 24）。 / The password of the database is empty or weak."
        )


def asked(ask: Callable[[str], str] = input, say: Callable[[str], None] = print) -> Answers:
    """By a person: each question with its default, again until it can be used, and a last look at all."""
    say("Kura（蔵）の導入です。Enter だけで [ ] の値になります。Ctrl-C で、何も変えずにやめます。")
    say("Installing Kura. Enter takes what stands in [ ]; Ctrl-C leaves everything as it is.\n")
    answers = checked(Answers())
    for one in fields(Answers):
        if not (question := one.metadata.get("asked")):
            continue
        if one.name == "key" and not answers.certificate:
            continue
        while True:
            before = getattr(answers, one.name)
            shown = ", ".join(before) if isinstance(before, tuple) else before
            text = ask(f"{question}\n  [{shown}]: ").strip()
            try:
                if text:
                    value: Any = text
                    if isinstance(before, tuple):
                        value = tuple(v for v in re.split(r"[,\s]+", text) if v)
                    elif isinstance(before, int):
                        value = int(text) if text.isdigit() else 0
                    changed = replace(answers, **{one.name: value})
                    if one.name == "certificate":  # its key is asked for next
                        answers = changed
                        break
                    answers = checked(changed)
                elif one.name == "key":
                    checked(answers)
                break
            except Refused as refused:
                say(f"  ✗ {refused}")
    say("\n" + text_of(replace(answers, database_url=_hidden(answers.database_url))))
    if ask("これで導入しますか / install with these? [y/N]: ").strip().lower() not in {"y", "yes"}:
        raise Refused("何も変えずにやめました。 / Nothing was changed.")
    return answers


def text_of(answers: Answers) -> str:
    """The file that says the same: kept on the host, so that `configure` can be run again."""
    plain, tables = [], []
    for one in fields(Answers):
        value = getattr(answers, one.name)
        if isinstance(value, dict):
            if value:
                tables += ["", f"[{one.name}]", *(f"{k} = {_toml(v)}" for k, v in value.items())]
        else:
            plain.append(f"{one.name} = {_toml(value)}")
    return "\n".join([*plain, *tables]) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _default(name: str) -> Any:
    return getattr(Answers(), name)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _hidden(url: str) -> str:
    return re.sub(r":[^:@/]*@", ":…@", url)
