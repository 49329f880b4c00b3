"""The graphics card, its driver, and whether the chosen models find room on it."""

from __future__ import annotations

import re

from installer.host.finding import Finding, Host, Wanted, bad, ok, warning

DRIVER = 525  # the least that runs CUDA 12 (NVIDIA's table of minor-version compatibility)
CAPABILITY = 7.0  # Volta: the oldest that faiss-gpu's wheel holds code for
_ASKED = "name,driver_version,memory.total,memory.free,compute_cap"


def card(host: Host, wanted: Wanted) -> Finding:
    needed = f"{wanted.vram_gb:g} GB" if wanted.vram_gb else "無くてもよい / none is fine"
    said = host.says("nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits")
    if not said:
        if host.has("/proc/driver/nvidia") or _on_the_bus(host):
            return bad(
                "NVIDIA のカードはあるがドライバーが答えません / a card, but its driver does not answer",
                needed,
                "apt-get install -y nvidia-driver && reboot",
            )
        if wanted.vram_gb:
            return bad(
                "ありません / none",
                needed,
                "GPU の要らないモデルを選んでください。 / Choose models for a CPU.",
            )
        return ok("ありません、CPU で動きます / none: it runs on the CPU", needed)
    name, driver, total, free, capability = (v.strip() for v in said.splitlines()[0].split(","))
    found = f"{name}, {driver}, {float(free) / 1024:.0f} / {float(total) / 1024:.0f} GB"
    if int(driver.partition(".")[0]) < DRIVER:
        return bad(
            found,
            f"ドライバー {DRIVER} 以降 / driver",
            "apt-get install -y nvidia-driver && reboot",
        )
    if float(capability) < CAPABILITY:
        return warning(
            found,
            f"Compute Capability {CAPABILITY}",
            "検索は CPU で行われます。 / Search stays on the CPU.",
        )
    if float(free) / 1024 < wanted.vram_gb:
        return bad(
            found,
            needed,
            "nvidia-smi   # 他の利用者を止めるか、小さいモデルを / stop others, or choose smaller models",
        )
    return ok(found, needed)


def _on_the_bus(host: Host) -> bool:
    """By the PCI class of a display (0x03) and NVIDIA's number."""
    devices = host.root / "sys/bus/pci/devices"
    for device in sorted(devices.iterdir()) if devices.is_dir() else ():
        vendor, kind = (
            host.text(f"/sys/bus/pci/devices/{device.name}/{f}") for f in ("vendor", "class")
        )
        if vendor.strip() == "0x10de" and re.match(r"0x03", kind):
            return True
    return False
