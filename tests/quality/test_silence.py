"""With the cable out: a second `make demo CHECK=1` where there is no interface but lo."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from appliance import settings
from installer.sample import load
from tests.quality.company import running

pytestmark = [pytest.mark.models, pytest.mark.slow]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def loaded(company_data: Path) -> Path:
    with running(company_data):
        return company_data


@pytest.mark.long
def test_the_second_demo_needs_no_network(loaded: Path) -> None:
    environment = os.environ | {
        "KURA_DATA": str(loaded),
        "KURA_MODELS": str(settings.load({}).models),
    }
    # `ip` may not be there; this sets lo up with what Python has
    lo_up = (
        "import fcntl, socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x1 | 0x40))"
    )
    script = (
        f'python3 -c "{lo_up}" && test "$(ls /sys/class/net 2>/dev/null | wc -l)" -ge 1 && '
        "! python3 -c \"import socket; socket.create_connection(('192.0.2.1', 80), 3)\" 2>/dev/null "
        "&& make demo CHECK=1"
    )
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert load.question().answer in done.stdout
