"""The bundle's file: a plain tar of which the signed manifest says every byte.

MANIFEST.json and its signature come first. The manifest has path, size and SHA-256 of all other
members, and their order, owner, mode and date are fixed; so what each header must look like is
known before it is read, and is compared, never interpreted. A member that was added, lost, doubled
or made a link, and one changed byte between two members, are all the same thing: not what was signed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from installer.bundle.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    SIGNATURE,
    File,
    Files,
    Manifest,
    order,
    parsed,
)
from installer.bundle.minisign import PublicKey, Refused, Signature, verify

__all__ = [
    "File",
    "Manifest",
    "Refused",
    "check",
    "described",
    "offered",
    "read",
    "unpack",
    "write",
]

SIGNATURE_BYTES = 4096
RECORD = 10_240  # tar's end is filled up to this

_BLOCK = 1 << 20


def write(
    path: Path,
    manifest: Manifest,
    contents: Mapping[str, Path | bytes],
    sign: Callable[[bytes], str],
) -> None:
    """Write the archive; the file appears when it is whole. Raises Refused, OSError."""
    body = manifest.as_json()
    parsed(body)  # nothing is signed that would be refused
    scratch = path.with_name(f".{path.name}.part")
    try:
        with scratch.open("wb") as out:
            for name, data in ((MANIFEST, body), (SIGNATURE, sign(body).encode())):
                out.write(_header(name, len(data), manifest.date) + data + _fill(len(data)))
            for name in order(manifest.files):
                wanted = manifest.files[name]
                out.write(_header(name, wanted.size, manifest.date))
                found = _copied(contents[name], out)
                if found != wanted:
                    raise Refused(
                        f"{name} が作成中に変わりました。もう一度実行してください。 / "
                        "It changed meanwhile; run this again."
                    )
                out.write(_fill(wanted.size))
            out.write(bytes(_end(out.tell()) - out.tell()))
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def described(content: Path | bytes) -> File:
    """Digest and size of what is to become a member."""
    return _copied(content, None)


def offered(path: Path) -> PublicKey | None:
    """The key that the archive itself names: trusted by nobody until its fingerprint was compared."""
    with _opened(path) as stream:
        _first(stream, MANIFEST, MANIFEST_BYTES)
        text = _first(stream, SIGNATURE, SIGNATURE_BYTES)
    try:
        return PublicKey.read(Signature.read(_text(text)).untrusted_comment.rpartition(" ")[2])
    except Refused:
        return None


def read(path: Path, keys: Sequence[PublicKey]) -> Manifest:
    """The manifest, once its signature was verified. Reads the first two members alone. Raises Refused."""
    with _opened(path) as stream:
        return _begun(stream, keys)[0]


def check(path: Path, manifest: Manifest) -> None:
    """Every byte of the archive is what was signed. Raises Refused."""
    _walk(path, manifest, lambda name: None)


def unpack(
    path: Path,
    manifest: Manifest,
    into: Path,
    members: Sequence[str] = ("",),
    base: Path | None = None,
) -> None:
    """Write the members that begin with one of `members` below `into`, which must not exist.

    The whole archive is checked, whatever is wanted of it, and `into` appears when all was right. A
    delta needs `base`: the archive it was made against, or a folder that such a one was unpacked to.
    Raises Refused; nothing is left behind.
    """
    wanted = {p: f for p, f in manifest.all.items() if p.startswith(tuple(members))}
    if manifest.kept.keys() & wanted.keys() and base is None:
        raise Refused(
            f"差分の束です。元の {manifest.base} の束 (またはそれを展開したフォルダー) を指定してください。 / "
            f"This is a delta: name the bundle of {manifest.base} or the folder it was unpacked to."
        )
    into.parent.mkdir(parents=True, exist_ok=True)
    with _alone(into) as scratch:
        _room(scratch, sum(f.size for f in wanted.values()))

        def target(name: str) -> Path | None:
            return scratch / name if name in wanted else None

        _walk(path, manifest, target)
        if base is not None and manifest.kept:
            _take(base, manifest, {p: f for p, f in manifest.kept.items() if p in wanted}, scratch)
        for folder, _, _ in os.walk(scratch):
            _sync(Path(folder))
        scratch.rename(into)
        _sync(into.parent)


def _take(base: Path, manifest: Manifest, kept: Files, into: Path) -> None:
    if base.is_file():
        keys = [manifest.key] if manifest.key else []
        old = read(base, keys)
        _is_base(old, manifest)
        if missing := [p for p in kept if old.files.get(p) != kept[p]]:
            raise _not_the_base(manifest, missing[0])
        _walk(base, old, lambda name: into / name if name in kept else None)
        return
    for name, wanted in kept.items():
        source = base / name
        if any(p.is_symlink() for p in (source, *source.parents) if base in p.parents):
            raise _not_the_base(manifest, name)
        try:
            with source.open("rb") as stream, _made(into / name) as out:
                found = _copied_stream(stream, out, None)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _no_room() from None
            raise _not_the_base(manifest, name) from None
        if found != wanted:
            raise _not_the_base(manifest, name)


def _is_base(old: Manifest, manifest: Manifest) -> None:
    if old.version != manifest.base or old.arch != manifest.arch:
        raise Refused(
            f"差分の元は {manifest.base} ですが、{old.version} が指定されました。 / "
            f"The delta was made against {manifest.base}, not {old.version}."
        )


def _not_the_base(manifest: Manifest, name: str) -> Refused:
    return Refused(
        f"元の {manifest.base} に {name} が無いか、変わっています。差分でない束を使ってください。 / "
        "The base lacks it or has another: use a bundle that is no delta."
    )


def _begun(stream: IO[bytes], keys: Sequence[PublicKey]) -> tuple[Manifest, bytes]:
    begin = stream.tell()
    body = _first(stream, MANIFEST, MANIFEST_BYTES)
    text = _text(_first(stream, SIGNATURE, SIGNATURE_BYTES))
    signature = Signature.read(text)
    trusted = [key for key in keys if key.key_id == signature.key_id]
    if not trusted:
        name = signature.key_id[::-1].hex().upper()
        raise Refused(
            f"信頼していない鍵 {name} の署名です。鍵の指紋を渡した人に確かめ、--key で指定してください。 / "
            "Signed with a key that is not trusted here: compare its fingerprint, then name it by --key."
        )
    for key in trusted[:-1]:  # ids are 8 bytes of chance: two keys with one are two to try
        try:
            verify(key, body, text)
        except Refused:
            continue
        trusted = [key]
        break
    verify(trusted[-1], body, text)
    if signature.text != text or signature.untrusted_comment != trusted[-1].named:
        raise _altered(SIGNATURE)  # the one line that no signature is over
    manifest = parsed(body, trusted[-1])
    # the two headers were read before the date in them could be known
    end = stream.tell()
    stream.seek(begin)
    for name, size in ((MANIFEST, len(body)), (SIGNATURE, len(text.encode()))):
        header = _header(name, size, manifest.date)
        if stream.read(len(header)) != header:
            raise _altered(name)
        stream.seek(size, os.SEEK_CUR)
        if any(stream.read(-size % 512)):
            raise _altered(name)
    if stream.tell() != end:
        raise _altered(SIGNATURE)
    return manifest, body


def _walk(path: Path, manifest: Manifest, target: Callable[[str], Path | None]) -> None:
    """Compare the whole archive with the manifest and write what `target` has a place for."""
    keys = [manifest.key] if manifest.key else []
    with _opened(path) as stream:
        again, body = _begun(stream, keys)
        if body != manifest.raw:
            raise _altered(MANIFEST)
        for name in order(again.files):
            wanted = again.files[name]
            header = _header(name, wanted.size, again.date)
            if stream.read(len(header)) != header:
                raise _altered(name)
            if (place := target(name)) is None:
                found = _copied_stream(stream, None, wanted.size)
            else:
                try:
                    with _made(place) as out:
                        found = _copied_stream(stream, out, wanted.size)
                except OSError as error:
                    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                        raise _no_room() from None
                    raise
            if found != wanted or stream.read(-wanted.size % 512) != _fill(wanted.size):
                raise _altered(name)
        at = stream.tell()
        if stream.read(_end(at) - at + 1) != bytes(_end(at) - at):
            raise _altered("末尾 (the end)")


def _first(stream: IO[bytes], name: str, limit: int) -> bytes:
    """The content of a member whose size is not known yet: the one number that is taken from a header."""
    header = stream.read(512)
    digits = header[124:135]
    if len(header) < 512 or header[:100].rstrip(b"\0") != name.encode() or not digits.isdigit():
        raise Refused(
            "蔵の束 (.kura.tar) ではないか、途中で切れています。 / "
            "This is no bundle of Kura, or it is cut short."
        )
    size = int(digits, 8) if not set(digits) & set(b"89") else limit + 1
    if size > limit:
        raise _altered(name)
    content = stream.read(size)
    stream.read(-size % 512)
    if len(content) != size:
        raise _altered(name)
    return content


def _header(name: str, size: int, date: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, date, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _fill(size: int) -> bytes:
    return bytes(-size % 512)


def _end(at: int) -> int:
    return -(-(at + 1024) // RECORD) * RECORD


def _copied(content: Path | bytes, out: IO[bytes] | None) -> File:
    if isinstance(content, bytes):
        if out:
            out.write(content)
        return File(hashlib.sha256(content).hexdigest(), len(content))
    with content.open("rb") as stream:
        return _copied_stream(stream, out, None)


def _copied_stream(stream: IO[bytes], out: IO[bytes] | None, size: int | None) -> File:
    digest, done = hashlib.sha256(), 0
    while size is None or done < size:
        block = stream.read(_BLOCK if size is None else min(_BLOCK, size - done))
        if not block:
            break
        digest.update(block)
        if out:
            out.write(block)
        done += len(block)
    return File(digest.hexdigest(), done)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise Refused(f"{path} を開けません / cannot be opened: {error.strerror}") from None
    with stream:
        yield stream


@contextmanager
def _made(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def _alone(into: Path) -> Iterator[Path]:
    """A folder beside `into`, which goes whatever happens; also the one that a killed process left."""
    if into.exists() or into.is_symlink():
        raise Refused(f"{into} は既にあります。 / is there already.")
    scratch = into.with_name(f".{into.name}.part")
    handle = os.open(into.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(
                f"{into.parent} で別の展開が動いています。終わるまで待ってください。 / "
                "Another one is unpacking there; wait for it."
            ) from None
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(handle)


def _room(folder: Path, needed: int) -> None:
    if shutil.disk_usage(folder).free < needed:
        raise _no_room(needed)


def _no_room(needed: int = 0) -> Refused:
    need = f" ({needed / 1e9:.1f} GB 必要)" if needed else ""
    return Refused(
        f"ディスクの空きが足りません{need}。空けてから、もう一度実行してください。 / "
        "The disk is too full; make room and run this again."
    )


def _altered(name: str) -> Refused:
    return Refused(
        f"束が署名されたとおりではありません: {name}。使わずに、コピーし直すか、渡した人に確かめてください。 / "
        "Not what was signed: do not use it; copy it again or ask whoever gave it to you."
    )


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _altered(SIGNATURE) from None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
