"""How this host runs Kura, for sentences that say what to do: by systemd, or by `kura up`."""

from __future__ import annotations

from pathlib import Path

TARGET = Path("/etc/systemd/system/kura.target")  # `kura-installer` puts it there


def start() -> str:
    """The command that starts all of it."""
    return "sudo systemctl start kura.target" if TARGET.exists() else "kura up"


def log_of(process: str) -> str:
    """Where the log of `web`, `work` or `infer` is read."""
    if TARGET.exists():
        return f"ログ（journalctl -u kura-{process}）"
    return f"kura.log の {process} の行"
