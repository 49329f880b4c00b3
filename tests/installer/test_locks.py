"""The lock files: what a site installs has to be whole by itself."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = Path(__file__).resolve().parents[2] / "installer" / "locks"
# torch's own entry differs by platform and is checked where it is installed
FROM_ELSEWHERE = {"torch"}


def locked(name: str) -> set[str]:
    text = (LOCKS / f"{name}.lock").read_text("utf-8")
    return {str(canonicalize_name(n)) for n in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)}


def test_all_that_the_product_needs_is_in_its_own_lock() -> None:
    """A bundle has no other: what is only among the tools that build would be missing at a site."""
    there = locked("product") | locked("torch-cpu") | FROM_ELSEWHERE
    missing = {}
    for name in there:
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            wanted = need.marker is None or need.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(need.name) not in there:
                missing[need.name] = name
    assert missing == {}
