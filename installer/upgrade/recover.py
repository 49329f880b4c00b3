"""`kura-installer recover`: ends what was cut off, so that all is of one release again."""

from __future__ import annotations

import argparse

from installer.steps import AtWork
from installer.upgrade import switch
from installer.upgrade.verbs import common, opened, told


def options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--boot", action="store_true", help=argparse.SUPPRESS)


@told
def run(given: argparse.Namespace) -> int:
    try:
        return _run(given)
    except AtWork as other:
        if not given.boot:
            raise
        print(other)  # it is what starts Kura: it will end what it began
        return 0


def _run(given: argparse.Namespace) -> int:
    with opened(given, "recover") as site:
        if given.boot:
            switch.at_boot(site)
            return 0
        done = switch.settle(site)
        site.context.say(done or "途中のものはありません。 / Nothing was under way.")
    return 0
