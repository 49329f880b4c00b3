"""A data folder between two releases: nothing of Kura starts on it."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import SettingsError

SWITCHING = "upgrade.switching"  # in the data folder, from the first move of a switch to the last


def check(data: Path) -> None:
    """Raises SettingsError while database and release may not belong together."""
    if (data / SWITCHING).exists():
        raise SettingsError(
            "更新または切り戻しが途中で止まっています。`kura-installer recover` を実行してください。"
        )
