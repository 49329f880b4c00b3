"""Threat M7: whatever is done to a bundle after it was signed, nothing of it is left on the disk."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.bundle import archive
from installer.bundle.archive import Refused
from installer.bundle.manifest import Manifest
from tests.installer.bundles import CONTENTS, KEY, OTHER, bundle

KEYS = [KEY.public]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return bundle(tmp_path / "kura-0.2.0-amd64.kura.tar")


def test_what_was_put_in_comes_out(good: Path, tmp_path: Path) -> None:
    manifest = archive.read(good, KEYS)
    archive.check(good, manifest)
    archive.unpack(good, manifest, tmp_path / "out")
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == CONTENTS
    assert manifest.version == "0.2.0" and manifest.key == KEY.public


def test_it_is_the_same_when_written_twice_and_any_tar_opens_it(good: Path, tmp_path: Path) -> None:
    again = bundle(tmp_path / "again.tar", dict(reversed(CONTENTS.items())))
    assert again.read_bytes() == good.read_bytes()
    (tmp_path / "by-tar").mkdir()
    subprocess.run(["tar", "xf", good, "-C", tmp_path / "by-tar"], check=True)
    for name, content in CONTENTS.items():
        assert (tmp_path / "by-tar" / name).read_bytes() == content
    with tarfile.open(good) as opened:
        names = opened.getnames()
        assert all(m.uid == m.gid == 0 and m.mtime == 1_764_000_000 for m in opened)
    assert names[:3] == ["MANIFEST.json", "MANIFEST.json.minisig", "kura-installer.pyz"]
    assert names[3:] == sorted(names[3:])


def test_only_what_is_wanted_is_written_and_all_is_checked(good: Path, tmp_path: Path) -> None:
    manifest = archive.read(good, KEYS)
    archive.unpack(good, manifest, tmp_path / "out", ("models/", "kura-installer.pyz"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["kura-installer.pyz", "models"]
    data = bytearray(good.read_bytes())
    data[data.index(b"wwww")] = 0x78
    good.write_bytes(data)
    with pytest.raises(Refused, match="wheels/"):
        archive.unpack(good, manifest, tmp_path / "two", ("models/",))
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("each", [97, pytest.param(7, marks=pytest.mark.long)])
def test_a_changed_byte_anywhere_is_refused(good: Path, tmp_path: Path, each: int) -> None:
    whole = good.read_bytes()
    end = len(whole)
    # every byte of headers and padding is too many: each 97th or 7th, and all around each member
    places = {*range(0, end, each)}
    with tarfile.open(good) as opened:
        for member in opened:
            places |= {*range(member.offset, member.offset + 8)}
            places |= {member.offset_data, member.offset_data - 1}
            places |= {min(member.offset_data + member.size, end - 1)}
    changed = tmp_path / "changed.tar"
    for place in sorted(places):
        data = bytearray(whole)
        data[place] ^= 1
        changed.write_bytes(data)
        with pytest.raises(Refused):
            archive.check(changed, archive.read(changed, KEYS))


def _rebuilt(good: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> None:
    with tarfile.open(good) as opened:
        members = [(m, (f.read() if (f := opened.extractfile(m)) else b"")) for m in opened]
    change(members)
    with tarfile.open(good, "w", format=tarfile.PAX_FORMAT) as out:
        for info, content in members:
            out.addfile(info, io.BytesIO(content))


def _named(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, to, 1_764_000_000
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info, b"evil" if info.size else b""


TAMPERED: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]] = {
    "added at the end": lambda m: m.append(_named("wheels/zzz.whl")),
    "added in the middle": lambda m: m.insert(4, _named("models/extra.gguf")),
    "added before all": lambda m: m.insert(0, _named("install.sh")),
    "missing": lambda m: m.pop(4),
    "the last one missing": lambda m: m.pop(),
    "no signature": lambda m: m.pop(1),
    "symlink": lambda m: m.insert(3, _named("docs/link", tarfile.SYMTYPE, "/etc/passwd")),
    "symlink in its place": lambda m: m.__setitem__(
        4, _named(m[4][0].name, tarfile.SYMTYPE, "/etc/passwd")
    ),
    "hard link": lambda m: m.append(_named("docs/link", tarfile.LNKTYPE, "../../etc/passwd")),
    "device": lambda m: m.append(_named("docs/null", tarfile.CHRTYPE)),
    "path outside": lambda m: m.append(_named("../outside")),
    "absolute path": lambda m: m.append(_named("/tmp/outside")),
    "duplicate": lambda m: m.append(m[4]),
    "duplicate beside": lambda m: m.insert(5, m[4]),
    "another of that name": lambda m: m.append(_named(m[4][0].name)),
    "another order": lambda m: m.reverse(),
    "two exchanged": lambda m: m.__setitem__(slice(3, 5), [m[4], m[3]]),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_bundles_leave_nothing(what: str, good: Path, tmp_path: Path) -> None:
    manifest = archive.read(good, KEYS)
    _rebuilt(good, TAMPERED[what])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match=r" / "):
        archive.unpack(good, manifest, tmp_path / "out")  # even one that was read before
    with pytest.raises(Refused):
        archive.unpack(good, archive.read(good, KEYS), tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kept", [0, 100, 512, 1536, 4096, 9000, -10_240, -1])
def test_a_truncated_one_and_one_with_something_behind(kept: int, good: Path) -> None:
    whole = good.read_bytes()
    manifest = archive.read(good, KEYS)
    good.write_bytes(whole[:kept])
    with pytest.raises(Refused):
        archive.check(good, archive.read(good, KEYS))
    good.write_bytes(whole + b"\0" * 512)
    with pytest.raises(Refused):
        archive.check(good, manifest)


def test_signed_by_another_key(tmp_path: Path) -> None:
    other = bundle(tmp_path / "other.tar", key=OTHER)
    with pytest.raises(Refused, match=f"鍵 {OTHER.public.name}"):
        archive.read(other, KEYS)
    same_id = bundle(tmp_path / "same.tar", key=type(KEY)(KEY.key_id, OTHER.seed))
    with pytest.raises(Refused, match="署名が内容と合いません"):
        archive.read(same_id, KEYS)
    assert archive.read(other, [KEY.public, OTHER.public]).key == OTHER.public


def test_a_manifest_that_changed_after_it_was_read(good: Path, tmp_path: Path) -> None:
    manifest = archive.read(good, KEYS)
    bundle(good, {**CONTENTS, "docs/more": b"."})
    with pytest.raises(Refused, match=r"MANIFEST\.json"):
        archive.unpack(good, manifest, tmp_path / "out")


def test_the_key_that_a_bundle_offers_has_a_fingerprint_to_compare(good: Path) -> None:
    key = archive.offered(good)
    assert key == KEY.public
    assert key.has(KEY.public.fingerprint.upper().replace(" ", ":"))
    assert not key.has(OTHER.public.fingerprint) and not key.has("")


@pytest.mark.parametrize(
    ("version", "installed", "older"),
    [
        ("0.2.0", "0.10.0", True),
        ("0.2.0", "0.2.0", False),
        ("0.2.0rc1", "0.2.0", True),
        ("0.2.0rc2", "0.2.0b3", False),
        ("1.0.0", "0.99.99", False),
    ],
)
def test_an_older_version(version: str, installed: str, older: bool, tmp_path: Path) -> None:
    manifest = archive.read(bundle(tmp_path / "b.tar", version=version), KEYS)
    if older:
        with pytest.raises(Refused, match="rollback"):
            manifest.refuse_older_than(installed)
    else:
        manifest.refuse_older_than(installed)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "docs/../x", "docs//x", "docs/.", "docs", "bin/x", "docs/a\nb", "docs\\x",
     "docs/" + "あ" * 90, "MANIFEST.json"],
)  # fmt: skip
def test_no_path_leads_elsewhere_even_when_signed(path: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="may not be in a bundle"):
        bundle(tmp_path / "b.tar", {path: b"x"})
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="lies in a file"):
        bundle(tmp_path / "b.tar", {"docs/a": b"x", "docs/a/b": b"y"})


def test_names_twice_in_the_manifest(tmp_path: Path) -> None:
    class Doubled(Manifest):
        def as_json(self) -> bytes:
            return super().as_json().replace(b'"size": 12', b'"size": 12, "size": 12')

    files = {"kura-installer.pyz": archive.described(b"PK installer")}
    with pytest.raises(Refused, match="twice"):
        archive.write(
            tmp_path / "b.tar",
            Doubled("0.2.0", "amd64", "", 0, files),
            {"kura-installer.pyz": b"PK installer"},
            lambda body: KEY.sign(body, ""),
        )


def test_a_delta_needs_its_base(good: Path, tmp_path: Path) -> None:
    new: dict[str, Path | bytes] = {**CONTENTS, "wheels/kura-0.3.0-py3-none-any.whl": b"new"}
    del new["wheels/kura-0.2.0-py3-none-any.whl"]
    delta = bundle(tmp_path / "delta.tar", new, version="0.3.0", base=good)
    manifest = archive.read(delta, KEYS)
    assert list(manifest.files) == ["kura-installer.pyz", "wheels/kura-0.3.0-py3-none-any.whl"]
    assert manifest.base == "0.2.0" and manifest.all.keys() == new.keys()
    archive.check(delta, manifest)
    with pytest.raises(Refused, match="差分の束です"):
        archive.unpack(delta, manifest, tmp_path / "out")
    archive.unpack(delta, manifest, tmp_path / "by-file", base=good)
    archive.unpack(good, archive.read(good, KEYS), tmp_path / "old")
    archive.unpack(delta, manifest, tmp_path / "by-folder", base=tmp_path / "old")
    for out in ("by-file", "by-folder"):
        for name, content in new.items():
            assert (tmp_path / out / name).read_bytes() == content
    with pytest.raises(Refused, match="差分の元は 0\\.2\\.0"):
        archive.unpack(
            delta, manifest, tmp_path / "out", base=bundle(tmp_path / "x", version="0.1.0")
        )
    (tmp_path / "old" / "models/kura-270m/kura-270m.gguf").write_bytes(b"GGUF changed")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match="差分でない束"):
        archive.unpack(delta, manifest, tmp_path / "out", base=tmp_path / "old")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_process_left_goes_and_nothing_is_overwritten(
    good: Path, tmp_path: Path
) -> None:
    manifest = archive.read(good, KEYS)
    (tmp_path / ".out.part" / "docs").mkdir(parents=True)
    (tmp_path / ".out.part" / "docs" / "half").write_text("x")
    archive.unpack(good, manifest, tmp_path / "out")
    assert not (tmp_path / "out" / "docs" / "half").exists()
    assert not (tmp_path / ".out.part").exists()
    with pytest.raises(Refused, match="既にあります"):
        archive.unpack(good, manifest, tmp_path / "out")


def test_a_full_disk_is_said_before_and_while_it_fills(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = archive.read(good, KEYS)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(Refused, match="空きが足りません"):
        archive.unpack(good, manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.part").exists()


def test_two_do_not_unpack_into_one_place(good: Path, tmp_path: Path) -> None:
    manifest = archive.read(good, KEYS)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="別の展開"):
            archive.unpack(good, manifest, tmp_path / "out")
    finally:
        os.close(handle)
    archive.unpack(good, manifest, tmp_path / "out")


def test_killed_in_the_middle_nothing_counts_as_unpacked(tmp_path: Path) -> None:
    large = bundle(tmp_path / "large.tar", {**CONTENTS, "models/large": bytes(200 << 20)})
    (tmp_path / "k.pub").write_text(KEY.public.text)
    program = (
        "import sys; from pathlib import Path; from installer.bundle import archive, keys; "
        "b, k, o = map(Path, sys.argv[1:]); m = archive.read(b, keys.trusted([k])); "
        "print(flush=True); archive.unpack(b, m, o)"
    )
    words = [sys.executable, "-c", program, large, tmp_path / "k.pub", tmp_path / "out"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as victim:
        assert victim.stdout
        victim.stdout.readline()
        while not list(tmp_path.glob(".out.part/*")) and victim.poll() is None:
            time.sleep(0.001)
        victim.kill()
    assert victim.returncode == -9 and not (tmp_path / "out").exists()
    archive.unpack(large, archive.read(large, KEYS), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.pub", "large.tar", "out"]
