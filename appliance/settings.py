"""Every setting: name, default, unit, sentence. Read once at start, from KURA_* and kura.toml.

The one place that reads the environment. Precedence: environment, then the
file named by KURA_CONFIG (or `kura.toml` in the data folder), then the default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, tzinfo
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from appliance.errors import SettingsError

# of the built UI: what the wheel brings, or what a checkout builds
UI = (
    Path(__file__).resolve().parent / "web",
    Path(__file__).resolve().parent.parent / "ui" / "dist",
)


_KINDS = {int: "整数", float: "数", bool: " true か false ", str: "文字列"}


def setting(default: Any, sentence: str, unit: str = "") -> Any:
    return field(default=default, metadata={"sentence": sentence, "unit": unit})


@dataclass(frozen=True)
class Settings:
    data: Path = setting(Path(".kura"), "Folder of everything this machine must keep.")
    database_url: str = setting(
        "", "Database; empty means SQLite in the data folder, else postgresql+psycopg://…"
    )
    database_schema: str = setting(
        "", "Schema of PostgreSQL that Kura's tables lie in; empty means the role's own (`public`)."
    )
    models: Path = setting(Path(), "Folder of unpacked models; empty means `models` in data.")
    llm: str = setting(
        "", "Model that answers, as `kura-installer model add` named it; empty means Kura's own."
    )
    site_models: Path = setting(
        Path(), "Folder of models that the site brought; empty means `site-models` in data."
    )
    site_keys: Path = setting(
        Path("/etc/kura/site-keys"),
        "Folder of the public keys that such models are signed with; the service may not write there.",
    )
    infer_socket: Path = setting(
        Path(), "Socket of `kura infer`; empty means `infer.sock` in data."
    )
    web_host: str = setting("127.0.0.1", "Address `kura web` listens on.")
    web_port: int = setting(8400, "Port `kura web` listens on.")
    public_origin: str = setting(
        "",
        "Origin people use, such as https://kura.example.co.jp; empty means the listening address.",
    )
    tls_certificate: Path = setting(
        Path(), "Certificate of `kura web` with those that signed it (PEM); empty means plain HTTP."
    )
    tls_key: Path = setting(Path(), "The key of that certificate (PEM).")
    ui: Path = setting(Path(), "Folder of the built UI; empty means the one beside the package.")
    log: Path = setting(Path(), "Log file of all processes; empty means `kura.log` in data.")

    embedder: str = setting(
        "",
        "Embedder that documents are searched by, by its name in the catalogue; empty means this release's. "
        "After a change the old one serves until everything is embedded anew.",
    )

    generator_url: str = setting(
        "", "Another OpenAI-compatible server for answers; empty means `kura infer`."
    )
    generator_model: str = setting("kura-answer", "Model name sent to the generator.")
    reader_decides: str = setting(
        "",
        "Whose answers stand only where Kura's reader points at the same: `always` every model's, "
        "`never` no model's; empty means those of Kura's own small models.",
    )
    generator_threads: int = setting(0, "CPU threads for the model; 0 means every core.", "threads")
    context_tokens: int = setting(
        8192, "Context of the local model, for all its answers together.", "tokens"
    )
    infer_slots: int = setting(8, "Answers written at the same time.", "answers")
    answer_tokens: int = setting(256, "Longest answer.", "tokens")
    prompt_tokens: int = setting(1000, "Most that passages may take of the prompt.", "tokens")
    infer_queue: int = setting(32, "Requests that may wait for the model before 429.", "requests")
    share_prefixes: bool = setting(
        False, "Reuse what the model has read for one person also for others; the clock shows it."
    )

    reranker: str = setting(
        "",
        "Who orders what was found: empty means Kura's own reader, `none` nobody, "
        "else the folder of a cross-encoder in safetensors.",
    )
    reranked: int = setting(
        8, "Candidates that it reads, the best of both indexes; each takes time.", "chunks"
    )

    passages: int = setting(5, "Passages shown to the model and the reader.", "passages")
    candidates: int = setting(50, "Candidates taken from each index before fusion.", "chunks")
    dense_weight: float = setting(0.6, "Weight of dense scores in fusion, 0 to 1.")
    evidence_threshold: float = setting(
        0.0, "Relevance under which a passage does not count as evidence; 0 takes the fitted value."
    )

    chunk_chars: int = setting(400, "Length of a chunk.", "characters")
    parent_chars: int = setting(1500, "Length of a parent section.", "characters")
    file_bytes: int = setting(100_000_000, "Largest file that is read.", "bytes")
    parse_seconds: int = setting(60, "Longest time one file may take to parse.", "seconds")
    parse_memory: int = setting(1_073_741_824, "Most memory one parser may take.", "bytes")
    ocr: bool = setting(True, "Read pages that are pictures (OCR), in the background.")
    ocr_threads: int = setting(
        1, "Pages read at the same time, each on one core and after all other work.", "pages"
    )
    ocr_seconds: int = setting(
        120, "Most time of a core that one page may take to read.", "seconds"
    )
    ocr_memory: int = setting(2_147_483_648, "Most memory the reading of a page may take.", "bytes")
    ocr_pixels: int = setting(200_000_000, "Largest picture that is read.", "pixels")
    ocr_sure: float = setting(
        0.8, "Confidence under which a line that was read counts as doubtful, 0 to 1."
    )
    follow_seconds: float = setting(0.5, "How often indexes look for changes.", "seconds")
    snapshot_seconds: float = setting(60.0, "How often changed indexes are saved.", "seconds")
    ca_file: Path = setting(
        Path(), "Certificates (PEM) of the company's own authority, for the sources' servers."
    )
    secrets_key: Path = setting(
        Path(),
        "File of the key that seals the sources' passwords; empty means `secrets.key` in data.",
    )
    near_hosts: str = setting(
        "", "Sources on this machine or its own link: host:port of each, separated by commas."
    )
    langchain_loaders: str = setting(
        "",
        "Loaders of LangChain that sources may run: module:Class of each, separated by commas. "
        "They are code, with the rights of `kura work`.",
    )
    backup_folder: Path = setting(
        Path(), "Folder of backups, on another disk or a share; it must be there already."
    )
    backup_recipient: str = setting(
        "", "Public key (age1…) that backups are sealed to; `kura backup key` makes a pair."
    )
    backup_cron: str = setting(
        "30 2 * * *", "When `kura work` makes a backup, as a cron expression; empty means never."
    )
    backup_keep_days: int = setting(
        14, "Backups that are kept, the last of each day, of so many days.", "days"
    )
    backup_keep_weeks: int = setting(
        8, "Likewise the last of each week, of so many weeks.", "weeks"
    )
    backup_keep_months: int = setting(
        12, "Likewise the last of each month, of so many months.", "months"
    )
    alert_mail_server: str = setting(
        "", "Mail server that alerts go out by, host:port; empty means no mail."
    )
    alert_mail_security: str = setting(
        "starttls", "How it is spoken to: `starttls`, `tls`, or `none`, which takes no password."
    )
    alert_mail_user: str = setting("", "Account there; empty means no sign-in.")
    alert_mail_password: str = setting("", "Its password.")
    alert_mail_from: str = setting("", "Address that alerts come from.")
    alert_mail_to: str = setting("", "Addresses that alerts go to, separated by commas.")
    alert_webhook_url: str = setting("", "URL that alerts are posted to; empty means none.")
    alert_webhook_secret: str = setting("", "Secret that the posts are signed with (HMAC-SHA256).")
    alert_syslog: str = setting(
        "",
        "Where alerts are logged: `udp://host:514`, `tcp://host:514`, `tls://host:6514` or `local`.",
    )
    alert_repeat_hours: int = setting(
        24, "An alert that is not over is told again after so long; 0 means never.", "hours"
    )
    alert_free_bytes: int = setting(
        2_000_000_000, "Free space of a disk under which it is an alert.", "bytes"
    )
    alert_verify_days: int = setting(
        35, "A backup that was not verified for so long is an alert; 0 means never.", "days"
    )
    alert_certificates: str = setting(
        "",
        "Certificates (PEM files) whose end is watched beside `tls_certificate` and `ca_file`, such as that of the "
        "reverse proxy, separated by commas.",
    )
    sync_seconds: int = setting(
        30, "How often a source is looked at, unless it says itself.", "seconds"
    )
    removal_percent: int = setting(
        50,
        "A complete listing that lacks more of a source's documents removes none of them until an "
        "administrator, or two more listings, confirm it.",
        "percent",
    )
    directory_seconds: int = setting(
        300, "How often directories (LDAP, Active Directory) are looked at; at least 10.", "seconds"
    )

    time_zone: str = setting(
        "",
        "Whose clock cron expressions and quiet hours go by, such as Asia/Tokyo; "
        "empty means the machine's.",
    )
    access_max_age_seconds: int = setting(
        3600,
        "How long what a source said of who may read holds after it should have been asked again; "
        "at least 60.",
        "seconds",
    )

    session_hours: int = setting(12, "A session ends this long after sign-in.", "hours")
    session_idle_minutes: int = setting(120, "A session ends after this long unused.", "minutes")
    lockout_attempts: int = setting(10, "Wrong passwords before an account is locked.", "attempts")
    lockout_minutes: int = setting(15, "How long it stays locked.", "minutes")
    sealed: bool = setting(
        False,
        "Each process tries at its start whether the operating system refuses every way out, "
        "and does not start where one is open.",
    )
    sealed_resolvers: str = setting(
        "",
        "Addresses of the company's DNS servers that may be asked when sealed, separated by commas.",
    )
    log_questions: bool = setting(False, "Write the text of questions into the audit record.")

    def __post_init__(self) -> None:
        derived = {
            "models": self.data / "models",
            "site_models": self.data / "site-models",
            "infer_socket": self.data / "infer.sock",
            "log": self.data / "kura.log",
            "secrets_key": self.data / "secrets.key",
            "ui": next(p for p in UI if p == UI[-1] or p.is_dir()),
        }
        for name, path in derived.items():
            if getattr(self, name) == Path():
                object.__setattr__(self, name, path)
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.data / 'kura.db'}")
        elif self.database_schema and self.database_url.startswith("postgresql"):
            url = _in_schema(self.database_url, self.database_schema)
            object.__setattr__(self, "database_url", url)
        if (self.tls_certificate == Path()) != (self.tls_key == Path()):
            raise SettingsError(
                "tls_certificate と tls_key は、両方書くか、どちらも書かないかです。"
            )
        _zone(self.time_zone)
        _ = self.resolvers
        if self.access_max_age_seconds < 60:
            raise SettingsError("access_max_age_seconds は 60 以上にしてください。")
        if self.reader_decides not in ("", "always", "never"):
            raise SettingsError(
                "reader_decides は always か never にするか、空にしてください"
                f"（いまは {self.reader_decides}）。"
            )
        if not 1 <= self.removal_percent <= 100:
            raise SettingsError("removal_percent は 1 から 100 までにしてください。")
        if self.directory_seconds < 10:
            raise SettingsError("directory_seconds は 10 以上にしてください。")

    @property
    def begun(self) -> bool:
        """Whether there is a site: who only looks must not make an empty database."""
        url = self.database_url
        return not url.startswith("sqlite:") or Path(url.removeprefix("sqlite:///")).exists()

    @property
    def zone(self) -> tzinfo:
        return _zone(self.time_zone)

    @property
    def resolvers(self) -> frozenset[str]:
        """`sealed_resolvers`, each in its one form."""
        named = (name.strip() for name in self.sealed_resolvers.split(","))
        try:
            return frozenset(str(ip_address(name)) for name in named if name)
        except ValueError:
            raise SettingsError(
                "sealed_resolvers に書けるのは、DNS サーバーの IP アドレスです（コンマで区切ります）。"
            ) from None

    @property
    def own_reranker(self) -> str:
        """The folder of the site's own cross-encoder; empty where there is none."""
        return "" if self.reranker == "none" else self.reranker

    @property
    def tls(self) -> bool:
        return self.tls_certificate != Path()

    @property
    def origin(self) -> str:
        scheme = "https" if self.tls else "http"
        return self.public_origin or f"{scheme}://{self.web_host}:{self.web_port}"


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from environment and file. Raises SettingsError naming what cannot be used."""
    env = os.environ if environment is None else environment
    known = {f.name: f for f in fields(Settings)}
    values: dict[str, Any] = {}
    data, path = Path(env.get("KURA_DATA", ".kura")).absolute(), file(env)
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} を TOML として読めません（{error}）。") from None
    elif "KURA_CONFIG" in env:
        raise SettingsError(f"KURA_CONFIG の指す {path} がありません。")
    for name in known:
        if (key := f"KURA_{name.upper()}") in env:
            values[name] = env[key]
    values |= overrides
    values.setdefault("data", data)
    if unknown := sorted(set(values) - set(known)):
        raise SettingsError(
            f"{path} の {'、'.join(unknown)} という設定はありません。`kura settings` が名前の一覧を示します。"
        )
    return Settings(**{name: _convert(name, known[name].default, v) for name, v in values.items()})


def file(environment: Mapping[str, str] | None = None) -> Path:
    """Where the settings are read from, whether there is such a file or not."""
    env = os.environ if environment is None else environment
    data = Path(env.get("KURA_DATA", ".kura")).absolute()
    return Path(env["KURA_CONFIG"]) if "KURA_CONFIG" in env else data / "kura.toml"


def _convert(name: str, default: Any, value: Any) -> Any:
    kind = type(default)
    try:
        if isinstance(default, Path):
            return Path(value).absolute() if str(value) else Path()
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "0": False, "false": False}[str(value).lower()]
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise SettingsError(
            f"設定 {name} に書けるのは{_KINDS.get(kind, '場所')}です（いまは {value!r}）。"
        ) from None


def _in_schema(url: str, schema: str) -> str:
    """So that whoever connects by this URL sees that schema alone."""
    if not re.fullmatch(r"[A-Za-z0-9_.+-]{1,63}", schema):
        raise SettingsError(
            "database_schema に書けるのは、半角の英数字と _ . + - を 63 字までです。"
        )
    path = "-csearch_path%3D" + quote(f'"{schema}"', safe="")
    if path in url:  # these settings were made of others
        return url
    if "options=" in url:
        return re.sub(r"options=([^&]*)", rf"options=\1%20{path}", url)
    return f"{url}{'&' if '?' in url else '?'}options={path}"


@lru_cache
def _zone(name: str) -> tzinfo:
    """Raises SettingsError where this machine does not know it."""
    if name:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # what is not there is a KeyError
            raise SettingsError(
                f"time_zone の {name} を、このマシンは知りません（例: Asia/Tokyo）。"
            ) from None
    with suppress(KeyError, ValueError, OSError):
        return ZoneInfo(os.environ["TZ"])
    with suppress(OSError), Path("/etc/localtime").open("rb") as file:
        return ZoneInfo.from_file(file, "localtime")
    return UTC
