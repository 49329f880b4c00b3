"""Archives and images that swell, climb or lie about their size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator

from tests.corpus.attack import SHOWN, Attack, bomb, packed

_TEXT = SHOWN.encode()


def attacks() -> Iterator[Attack]:
    for name, tries, data, shown in (*_zips(), *_tars()):
        yield Attack(f"archive/{name}", tries, data, SHOWN if shown else "")
    for name, tries, data in _images():
        yield Attack(f"image/{name}", tries, data)


def _zips() -> Iterator[tuple[str, str, bytes, bool]]:
    yield "爆弾.zip", "120 MB of zeros", bomb(120), False
    inner = bomb(100)
    for _ in range(4):
        inner = packed({f"{n}.zip": inner for n in range(8)})
    yield "入れ子爆弾.zip", "four levels of eight bombs: 400 GB", inner, False
    deep = packed({"文.txt": _TEXT})
    for _ in range(60):
        deep = packed({"中.zip": deep})
    yield "六十重.zip", "sixty archives in one another", deep, False
    yield "路.zip", "names that climb out of the folder", packed(
        {"../../../../etc/cron.d/kura": _TEXT, "/root/.ssh/authorized_keys": b"key", "C:\\Windows\\a.txt": b"a", "a\0b.txt": b"b"}
    ), True  # fmt: skip
    yield (
        "千五百個.zip",
        "fifteen hundred files",
        packed({f"{n}.txt": b"x" for n in range(1500)}),
        False,
    )
    yield "重なり.zip", "a thousand entries of the same bytes", _overlapping(), False
    good = packed({"規程.txt": _TEXT, "二.txt": _TEXT * 50})
    yield (
        "嘘の大きさ.zip",
        "sizes that are not true",
        good.replace(struct.pack("<I", len(_TEXT) * 50), b"\xff\xff\xff\x7f"),
        False,
    )
    yield "切れた.zip", "the directory at the end is gone", good[:-60], False
    yield (
        "鍵つき.zip",
        "a member that says it is encrypted",
        good.replace(b"PK\x01\x02\x14\x00\x14\x00\x00\x08", b"PK\x01\x02\x14\x00\x14\x00\x01\x08"),
        False,
    )
    layers = b"\0" * 100_000_000
    for _ in range(3):
        layers = gzip.compress(layers, 9, mtime=0)
    yield "三重.gz", "100 MB, packed three times", layers, False
    yield (
        "爆弾.bz2.tar.bz2",
        "500 MB of nothing",
        bz2.compress(_tar({"零.txt": b"\0" * 50_000_000}) * 10, 9),
        False,
    )
    yield (
        "爆弾.tar.xz",
        "120 MB of nothing",
        lzma.compress(_tar({"零.txt": b"\0" * 120_000_000}), preset=1),
        False,
    )


def _overlapping() -> bytes:
    """Every entry of the directory points at one member."""
    one = packed({"a.txt": b"0" * 3_000_000})
    start = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    entry, count = one[start:end], 1000
    tail = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0
    )
    return one[:start] + entry * count + tail


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _tars() -> Iterator[tuple[str, str, bytes, bool]]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, link in (
            ("鍵", tarfile.SYMTYPE, "/etc/shadow"), ("硬", tarfile.LNKTYPE, "../../etc/passwd"),
            ("装置", tarfile.CHRTYPE, ""), ("管", tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.devmajor, info.devminor = kind, link, 1, 5
            archive.addfile(info)
        info = tarfile.TarInfo("../../規程.txt")
        info.size = len(_TEXT)
        archive.addfile(info, io.BytesIO(_TEXT))
    yield "繋ぎ.tar", "links to the machine's secrets, devices, a pipe", out.getvalue(), True
    data = bytearray(_tar({"規程.txt": _TEXT}))
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    yield "八ギガ.tar", "a member that says it has eight gigabytes", bytes(data), False
    yield "零の山.tar", "nothing but empty blocks", b"\0" * 60_000, False


def _images() -> Iterator[tuple[str, str, bytes]]:
    yield "巨大.png", "a PNG of four thousand million pixels", _png(65_000, 65_000)
    yield "線.png", "a PNG two thousand million pixels wide", _png(2_147_483_647, 1)
    yield (
        "注釈爆弾.png",
        "a comment that unfolds to 60 MB",
        _png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 60_000_000, 9))),
    )
    yield "壊れた和.png", "checksums that are wrong", _png(8, 8).replace(b"IDAT", b"IDAT\0", 1)
    yield (
        "画素爆弾.png",
        "20,000 × 20,000 real pixels in a few kilobytes",
        _png(20_000, 20_000, real=True),
    )
    head = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\3\1\x11\0\2\x11\1\3\x11\1"
    yield "巨大.jpg", "a JPEG of 65,500 × 65,500 without data", head + b"\xff\xd9"
    yield "印なし.jpg", "segments of length zero for ever", b"\xff\xd8" + b"\xff\xe1\0\0" * 15_000
    ifd = struct.pack("<H", 1) + struct.pack("<HHII", 256, 3, 1, 100) + struct.pack("<I", 8)
    yield "循環.tiff", "a directory whose next is itself", b"II*\0" + struct.pack("<I", 8) + ifd
    wide = b"".join(
        struct.pack("<HHII", tag, 4, 1, v)
        for tag, v in (
            (256, 4_000_000_000),
            (257, 4_000_000_000),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (278, 4_000_000_000),
            (279, 4_000_000_000),
        )
    )
    yield (
        "巨大.tiff",
        "a TIFF of 4,000,000,000 squared",
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 8) + wide + b"\0\0\0\0",
    )
    count = struct.pack("<H", 1) + struct.pack("<HHII", 273, 4, 0xFFFFFFFF, 8) + b"\0\0\0\0"
    yield "四十億の帯.tiff", "four thousand million strips", b"II*\0" + struct.pack("<I", 8) + count
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="1e9" height="1e9"><script>fetch("http://192.0.2.1/")</script><image href="file:///etc/passwd"/><text>{SHOWN}</text></svg>'
    yield "絵.svg", "a drawing with a script and an address", svg.encode()


def _png(width: int, height: int, more: bytes = b"", *, real: bool = False) -> bytes:
    if real:  # one bit a pixel
        rows = zlib.compressobj(9)
        line = b"\0" * (1 + (width + 7) // 8)
        data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    else:
        data = zlib.compress(b"\0" * 100)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + more
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
