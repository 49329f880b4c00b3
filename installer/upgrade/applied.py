"""`kura-installer apply-host`: what lies outside of the release's folder, as this release wants it.

A switch has each release do this by its own installer: units of one release are not for another.
It takes no lock, for the switch that calls it holds it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from installer.deploy import answers
from installer.deploy import verb as deploy
from installer.deploy.site import Site
from installer.places import Places
from installer.upgrade.verbs import told

WRITES = frozenset({"settings", "firewall", "units", "rotation", "commands"})


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


@told
def run(given: argparse.Namespace) -> int:
    at = Places(given.root.absolute())
    said = answers.read(at.etc / "install.toml")
    site = Site(at, "apply-host", at.installed(), answers=said)
    for step in deploy.CONFIGURE:
        if step.name in WRITES and not step.done(site):
            step.do(site)
    return 0
