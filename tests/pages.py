"""Pages of measured figures: each section is written anew by its own command, the others stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


def section(page: Path, head: str, name: str, command: str, text: str) -> None:
    """`head` begins a page that is not there yet; a section that is new comes last."""
    from tests.quality.__main__ import cores, processor

    first, *sections = (page.read_text("utf-8") if page.exists() else head).split("\n## ")
    held = {section.partition("\n")[0]: section for section in sections}
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {cores()} cores ({processor()}): `{command}`"
    held[name] = f"{name}\n\n{machine}\n\n{text}"
    page.write_text("\n## ".join([first, *held.values()]), "utf-8")
