"""Nothing leaves: every connection that Python opens is judged before it is made.

`guard` installs an audit hook, which cannot be taken out again: from then on
this process reaches loopback, Unix sockets, and the hosts that its settings
name (database, generator). Everything else raises EgressBlocked and is logged.
It says who tried what; it proves nothing, for native code goes around it. The
proof is in `walls`, which tries what the operating system must refuse.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import mmap
import os
import socket
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from appliance.errors import SettingsError
from appliance.settings import Settings

log = logging.getLogger("kura.egress")

# Libraries that would call home unless told not to. Set before they are imported.
SWITCHES = {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "LM_COMPAT_LEVEL": "5",  # a file server is never answered with NTLMv1
    "OTEL_SDK_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}
# Keys that would make a library believe it has somewhere to report to.
FORBIDDEN = (
    "HF_ENDPOINT",
    "LANGCHAIN_API_KEY",
    "LANGCHAIN_ENDPOINT",
    "LANGSMITH_API_KEY",
    "LANGSMITH_ENDPOINT",
)

# What a library made of them when it was loaded: a switch set too late is no switch.
EFFECTS = (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("huggingface_hub.constants", "HF_HUB_DISABLE_TELEMETRY"),
    ("datasets.config", "HF_HUB_OFFLINE"),
)

_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_RESOLVING = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_REVERSING = frozenset({"socket.gethostbyaddr", "socket.getnameinfo"})  # asks about an address
FOLDER = "egress"  # of the data folder: how often each kind of process was refused
_guarded: _Guard | None = None


class EgressBlocked(PermissionError):
    """This process may not reach that address. To libraries it looks like a dead network."""


def switch_off(environment: dict[str, str] | os._Environ[str] | None = None) -> None:
    """Tell every library to stay at home. Call it before importing any."""
    env = os.environ if environment is None else environment
    env.update(SWITCHES)
    for name in FORBIDDEN:
        env.pop(name, None)


def assert_off() -> None:
    """Raises SettingsError where a switch is not set, or a library does not heed it."""
    for name, value in SWITCHES.items():
        if os.environ.get(name) != value:
            raise SettingsError(
                f"{name} が {value} ではありません。Kura の外から変えられています。"
            )
    if found := [name for name in FORBIDDEN if name in os.environ]:
        raise SettingsError(f"環境変数 {found[0]} を取り除いてから起動してください。")
    for module, switch in EFFECTS:
        if (loaded := sys.modules.get(module)) and not getattr(loaded, switch, True):
            raise SettingsError(
                f"{module} は {switch} より前に読み込まれました。Kura の不具合です。"
            )


def guard(settings: Settings, process: str = "console", *, listens: bool = False) -> None:
    """From now on nothing leaves. `listens`: this process may bind `web_host`."""
    binds = frozenset({settings.web_host}) if listens else frozenset[str]()
    counts = settings.data / FOLDER
    if process != "console" and settings.data.is_dir():  # a command leaves no trace by being run
        counts.mkdir(mode=0o700, exist_ok=True)
    # `kura work` asks `kura web` how it is: of several containers, by its name
    _install(allowed_hosts(settings) | {settings.web_host.lower()}, binds, process, counts)


def guard_child(process: str, counts: Path | None) -> None:
    """The same for a child that has nobody to speak to. `counts`: the folder of the counts."""
    _install(frozenset(), frozenset(), process, counts)


def _install(
    hosts: frozenset[str], binds: frozenset[str], process: str, counts: Path | None
) -> None:
    global _guarded
    switch_off()
    if _guarded is not None:
        _guarded.hosts, _guarded.binds = hosts, binds
        return
    _guarded = _Guard(hosts, binds, _Count(counts and counts / f"{process}.count"))
    sys.addaudithook(_guarded)
    for verb in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, verb, _judged_first(verb, _guarded))


def reach(host: str) -> None:
    """From now on this process may reach that host as well: a source lies there."""
    if _guarded is not None:
        _guarded.hosts |= {host.lower()}


def blocked() -> int:
    """How many connections were refused in this process."""
    return _guarded.count.here if _guarded else 0


def counts(data: Path) -> dict[str, int]:
    """How many each kind of process was refused, ever. A parser's own is what it says itself."""
    found = {}
    for file in sorted((data / FOLDER).glob("*.count")):
        with contextlib.suppress(OSError):
            found[file.stem] = int.from_bytes(file.read_bytes()[:8], "little")
    return found


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Hosts the settings name: the database and the generator, where they are not this machine."""
    urls = (settings.database_url, settings.generator_url)
    return frozenset(
        name.lower() for url in urls if url and (name := urlsplit(url).hostname) is not None
    )


class _Count:
    """A number in a file of its own that outlives the process, mapped: a parser may write nothing.

    Processes of one kind that are refused at the same instant may count as one.
    """

    def __init__(self, path: Path | None) -> None:
        self.here = 0
        self._kept: mmap.mmap | None = None
        if path is None or not path.parent.is_dir():
            return  # nothing has run here yet: the log has it
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.warning("no count of refused connections is kept: %s", error)
            return
        try:
            os.truncate(handle, 8)
            self._kept = mmap.mmap(handle, 8)
        finally:
            os.close(handle)

    def up(self) -> None:
        self.here += 1
        if self._kept is not None:
            before = int.from_bytes(self._kept[:8], "little")
            self._kept[:8] = min(before + 1, 2**63).to_bytes(8, "little")


class _Guard:
    def __init__(self, hosts: frozenset[str], binds: Collection[str], count: _Count) -> None:
        self.hosts = hosts
        self.binds = binds
        self.count = count
        self._inside = threading.local()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not event.startswith("socket.") or getattr(self._inside, "judging", False):
            return
        if event in _CONNECTING:
            family, address = args[0].family, args[1]
            ours = address is None or family == socket.AF_UNIX or self._may_reach(address)
        elif event == "socket.bind":
            family, address = args[0].family, args[1]
            ours = family == socket.AF_UNIX or self._may_bind(address)
        elif event in _RESOLVING:
            address = args[0]
            ours = self._may_resolve(address)
        elif event in _REVERSING:
            address = args[0]
            ours = _loopback(_name(address))
        else:
            return
        if not ours:
            self.count.up()
            where = _shown(address)
            log.error("blocked", extra={"fields": {"what": event, "where": where}})
            raise EgressBlocked(f"{event} to {where} is outside this appliance")

    def _may_reach(self, address: Any) -> bool:
        name = _name(address)
        return _loopback(name) or name in self.hosts or name in self._resolved()

    def _may_bind(self, address: Any) -> bool:
        name = _name(address)
        return _loopback(name) or name in self.binds

    def _may_resolve(self, address: Any) -> bool:
        name = _name(address)
        # An address needs no resolver; whether it may be reached is asked when it is.
        return name == "" or _loopback(name) or name in self.hosts or _ip(name) is not None

    def _resolved(self) -> set[str]:
        """What the allowed names mean now. Asked only when something else was about to be refused."""
        self._inside.judging = True
        try:
            found = set()
            for host in self.hosts:
                try:
                    found |= {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
                except OSError:
                    continue
            return found
        finally:
            self._inside.judging = False


def _judged_first(verb: str, guard: _Guard) -> Any:
    """The socket's own method, which would look a name up before the hook hears of it."""
    real = getattr(socket.socket, verb)

    def judged(self: socket.socket, *args: Any) -> Any:
        if args and isinstance(args[-1], tuple):
            guard(f"socket.{'sendto' if verb == 'sendto' else 'connect'}", (self, args[-1]))
        return real(self, *args)

    return judged


def _name(address: Any) -> str:
    """The host of an address as Python has it: a name, or (name, port, …)."""
    if isinstance(address, tuple):
        address = address[0] if address else ""
    if isinstance(address, (bytes, bytearray)):
        address = address.decode("utf-8", "replace")
    return str(address).lower() if address is not None else ""


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped if mapped is not None else ip


def _loopback(name: str) -> bool:
    ip = _ip(name)
    return name == "localhost" or (ip is not None and ip.is_loopback)


def _shown(address: Any) -> str:
    return ascii(_name(address))[:200]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """An environment for a child, with everything switched off."""
    env = dict(base)
    switch_off(env)
    return env
