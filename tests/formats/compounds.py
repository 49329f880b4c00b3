"""Compound files (OLE2) for tests: nothing that writes Outlook's mails can be installed here."""

from __future__ import annotations

import struct

SECTOR, MINI, CUTOFF = 512, 64, 4096
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound(files: dict[str, bytes]) -> bytes:
    """A file with these streams; `a/b` lies in the folder `a` ([MS-CFB])."""
    paths = sorted({p for f in files for p in _above(f)} | set(files))
    numbers = {path: n for n, path in enumerate(paths, 1)}
    mini, mini_fat, big = b"", list[int](), list[bytes]()
    starts: dict[str, int] = {}
    for path, data in files.items():
        if len(data) >= CUTOFF:
            continue
        starts[path] = len(mini_fat) if data else END
        sectors = -(-len(data) // MINI)
        mini_fat += [len(mini_fat) + n + 1 for n in range(sectors - 1)] + [END] * bool(sectors)
        mini += data.ljust(sectors * MINI, b"\x00")
    chains: list[tuple[str, bytes]] = [("", mini), ("#mini", _longs(mini_fat))]
    chains += [(path, data) for path, data in files.items() if len(data) >= CUTOFF]
    directory_at = 0
    count = -(-128 * (len(paths) + 1) // SECTOR)
    fat = [n + 1 for n in range(count - 1)] + [END]
    for path, data in chains:
        sectors = -(-len(data) // SECTOR)
        starts[path] = len(fat) if sectors else END
        fat += [len(fat) + n + 1 for n in range(sectors - 1)] + [END] * bool(sectors)
        big.append(data.ljust(sectors * SECTOR, b"\x00"))
    fat_sectors = 1
    while (len(fat) + fat_sectors) * 4 > fat_sectors * SECTOR:
        fat_sectors += 1
    fat_at = len(fat)
    fat += [FAT] * fat_sectors
    entries = [_entry("Root Entry", 5, _child("", numbers), FREE, starts[""], len(mini))]
    for path in paths:
        kind = 2 if path in files else 1
        size = len(files.get(path, b""))
        entries.append(
            _entry(
                path.rpartition("/")[2],
                kind,
                _child(path, numbers) if kind == 1 else FREE,
                _sibling(path, numbers),
                starts.get(path, 0),
                size,
            )
        )
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    head += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    minis = -(-4 * len(mini_fat) // SECTOR)
    head += struct.pack(
        "<IIIIIIIII", 0, fat_sectors, directory_at, 0, CUTOFF, starts["#mini"], minis, END, 0
    )
    head += _longs([fat_at + n for n in range(fat_sectors)]).ljust(109 * 4, b"\xff")
    body = b"".join(entries).ljust(count * SECTOR, b"\x00") + b"".join(big)
    return head + body + _longs(fat).ljust(fat_sectors * SECTOR, b"\xff")


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _kids(folder: str, numbers: dict[str, int]) -> list[str]:
    return sorted(p for p in numbers if p.rpartition("/")[0] == folder)


def _child(folder: str, numbers: dict[str, int]) -> int:
    kids = _kids(folder, numbers)
    return numbers[kids[0]] if kids else FREE


def _sibling(path: str, numbers: dict[str, int]) -> int:
    kids = _kids(path.rpartition("/")[0], numbers)
    at = kids.index(path) + 1
    return numbers[kids[at]] if at < len(kids) else FREE


def _entry(name: str, kind: int, child: int, right: int, start: int, size: int) -> bytes:
    written = name.encode("utf-16-le") + b"\x00\x00"
    return (
        written.ljust(64, b"\x00")
        + struct.pack("<HBB", len(written), kind, 1)
        + struct.pack("<III", FREE, right, child)
        + bytes(36)
        + struct.pack("<IQ", start, size)
    )


def _longs(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)
