"""Every check, by field. To add one: a function, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from installer.host import disk, gpu, machine, network, walls
from installer.host.finding import Finding, Host, Wanted, bad

Check = Callable[[Host, Wanted], Finding | None]  # None: not asked for

CHECKS: dict[str, Check] = {
    "CPU の命令 / CPU instructions": machine.processor,
    "コア / cores": machine.cores,
    "メモリ / memory": machine.memory,
    "カーネル / kernel": machine.kernel,
    "C ライブラリ / C library": machine.glibc,
    "Python": machine.python,
    "SQLite": machine.sqlite,
    "時計 / clock": machine.clock,
    "systemd": machine.service_manager,
    "名前空間 / namespaces": walls.namespaces,
    "cgroup": walls.cgroups,
    "BPF": walls.filters,
    "ファイアウォール / firewall": walls.firewall,
    "ディスクの空き / disk space": disk.room,
    "ファイルシステム / file system": disk.kind,
    "書き込みの速さ / write latency": disk.latency,
    "一時フォルダー / temporary folder": disk.temporary,
    "GPU": gpu.card,
    "ポート / port": network.port,
    "DNS": network.name,
    "TLS 証明書 / certificate": network.certificate,
    "LDAP": network.directory,
    "SMB": network.file_servers,
}


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    finding: Finding


def lines(host: Host, wanted: Wanted) -> Iterator[Line]:
    """In the table's order; all look at once, so that it takes as long as the slowest."""
    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        asked = {name: pool.submit(_look, check, host, wanted) for name, check in CHECKS.items()}
        for name, future in asked.items():
            if finding := future.result():
                yield Line(name, finding)


def _look(check: Check, host: Host, wanted: Wanted) -> Finding | None:
    try:
        return check(host, wanted)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding
        return bad(
            f"{type(error).__name__}: {error}"[:300],
            "調べられること / can be looked at",
            "この行を開発元に知らせてください。 / Please report this line.",
        )
