"""Builds `files/` from `source/`, byte for byte the same every time.

python -m installer.sample.build [--check] [--out DIR]

Without options it writes `files/` and takes away what has no source. `--check`
writes nothing and exits with 1, naming each file that differs.
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from pathlib import Path

from installer.sample import sources
from installer.sample.writers import WRITERS, mail


def build(root: Path = sources.SOURCE) -> dict[str, bytes]:
    """Every file of the site by its path below files/, the access files included."""
    by_uri = {source.uri: source for source in sources.every(root)}
    built: dict[str, bytes] = {}

    def file(uri: str) -> bytes:
        if uri not in built:
            source = by_uri[uri]
            write = WRITERS.get(source.kind)
            built[uri] = write(source) if write else mail.write(source, file)
        return built[uri]

    for uri, source in by_uri.items():
        if source.kind not in WRITERS and source.kind != "eml":
            raise ValueError(f"{uri}: no writer for .{source.kind}")
        file(uri)
    for path in root.rglob(sources.ACCESS):
        built[_below(path, root)] = path.read_bytes()
    return dict(sorted(built.items()))


def differences(built: dict[str, bytes], there: Path) -> list[str]:
    found = {_below(path, there): path for path in there.rglob("*") if path.is_file()}
    lines = [f"missing: {uri}" for uri in built.keys() - found.keys()]
    lines += [f"has no source: {uri}" for uri in found.keys() - built.keys()]
    lines += [
        f"differs: {uri}"
        for uri in built.keys() & found.keys()
        if found[uri].read_bytes() != built[uri]
    ]
    return sorted(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if different")
    parser.add_argument("--out", type=Path, default=sources.FILES, help="default: files/")
    options = parser.parse_args(arguments)
    built = build()
    lines = differences(built, options.out)
    if options.check:
        print("\n".join(lines) if lines else f"{len(built)} files as they should be")
        return 1 if lines else 0
    for uri, data in built.items():
        path = options.out / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for line in lines:
        # another folder may hold what is not ours
        if line.startswith("has no source: ") and options.out == sources.FILES:
            (options.out / line.removeprefix("has no source: ")).unlink()
    print(f"{len(built)} files, {sum(map(len, built.values())):,} bytes, in {options.out}")
    return 0


def _below(path: Path, root: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(root).as_posix())


if __name__ == "__main__":
    sys.exit(main())
