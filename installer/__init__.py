"""Putting Kura on a machine: what `make` runs. Later: bundle, install, upgrade, backup."""
