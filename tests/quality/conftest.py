from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import settings
from appliance.inference import models
from tests.quality.company import Company, running


@pytest.fixture(scope="session")
def company_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's sample company lives.

    KURA_TEST_COMPANY names the folder of one that was taken in and stopped, by `make demo CHECK=1`
    say: a copy of it is asked, instead of two minutes and both cores for another.
    """
    models.unpack(settings.load({}).models)
    folder = tmp_path_factory.mktemp("company") / "data"
    taken_in = os.environ.get("KURA_TEST_COMPANY")
    if taken_in:
        shutil.copytree(taken_in, folder, ignore=shutil.ignore_patterns("models", "*.sock"))
    else:
        folder.mkdir()
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def company(company_data: Path) -> Iterator[Company]:
    with running(company_data) as company:
        yield company
