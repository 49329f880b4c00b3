from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import settings
from appliance.inference import models
from tests.quality.company import Company, running


@pytest.fixture(scope="session")
def company_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's sample company lives."""
    models.unpack(settings.load({}).models)
    folder = tmp_path_factory.mktemp("company") / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="module")
def company(company_data: Path) -> Iterator[Company]:
    with running(company_data) as company:
        yield company
