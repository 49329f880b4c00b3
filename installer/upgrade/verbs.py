"""What the verbs have in common: which host, how it runs, one at a time, and how a refusal is told."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from installer.bundle.minisign import Refused as BundleRefused
from installer.places import Places
from installer.steps import Context, Refused, alone
from installer.upgrade.site import Site

OK, NOT_YET, INTERRUPTED = 0, 1, 130


def common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--no-systemd", action="store_true", help="systemd が無い所で kura up を使う / by kura up"
    )


def told(do: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A verb whose refusals are one sentence on stderr."""

    def verb(given: argparse.Namespace) -> int:
        try:
            return do(given)
        except (Refused, BundleRefused) as refused:
            said = str(refused)
        except OSError as error:
            said = f"{error.filename or ''} {error.strerror or error}".strip()
            if error.errno in (28, 122):
                said = f"ディスクに空きがありません / the disk is full: {error.filename or error}"
        except KeyboardInterrupt:
            print("\nkura-installer: 中断しました。 / Interrupted.", file=sys.stderr)
            return INTERRUPTED
        print(f"kura-installer: {said}", file=sys.stderr)
        return NOT_YET

    return verb


@contextmanager
def opened(
    given: argparse.Namespace, verb: str, kind: type[Context] = Context, *, bare: bool = False
) -> Iterator[Site]:
    """The host, for this process alone; `bare`: though Kura may be half gone. Raises Refused."""
    places = Places(given.root.absolute())
    if places.root == Path("/") and os.geteuid() != 0:
        raise Refused("root で実行してください (sudo)。 / Run it as root.")
    site = Site(kind(places, verb), systemd=not given.no_systemd)
    if not bare:
        site.installed()
    with alone(places):
        try:
            yield site
        finally:
            site.dismiss()
