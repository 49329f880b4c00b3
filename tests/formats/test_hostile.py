"""Damaged files at random: text or a reason, within the limits, and the next file is read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.errors import TooLarge, Unreadable
from appliance.formats.sandbox import Sandbox

NAMES = ["規程.pdf", "規程.docx", "台帳.xlsx", "提案.pptx"]


def damaged(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 3, 10, 60])):
        at, other = rng.randrange(len(out)), rng.randrange(len(out))
        match rng.randrange(3):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randrange(1, 40)]
            case _:
                out[at:at] = out[other : other + rng.randrange(1, 60)]
    return bytes(out)


@pytest.mark.parametrize("name", NAMES)
def test_damage_never_reaches_us(sandbox: Sandbox, raw, corpus: Path, name: str) -> None:
    rng = random.Random(name)
    whole = (corpus / name).read_bytes()
    before = sandbox.pid
    reasons = 0
    for _ in range(40):
        try:
            sandbox.parse(raw(damaged(whole, rng), name))
        except (Unreadable, TooLarge) as error:
            reasons += bool(str(error))
    assert reasons > 10
    assert sandbox.pid == before
    assert sandbox.parse(raw(whole, name))[0].text
