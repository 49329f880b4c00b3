"""The figures that a monitoring system of the site fetches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from appliance.api import create_app
from appliance.system import Appliance
from tests.api.conftest import ORIGIN

PATH = "/api/v1/admin/metrics"
INFER = '# TYPE kura_slots gauge\nkura_slots{model="kura-270m"} 8.0\n'


def test_a_scraper_with_an_admin_key_reads_both_processes(
    machine: Appliance, key_for: Callable[..., dict[str, str]]
) -> None:
    app = create_app(replace(machine, model_metrics=lambda: INFER))
    with TestClient(app, base_url=ORIGIN) as http:
        response = http.get(PATH, headers=key_for("admin", "admin"))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert found["kura_documents", "ready"] > 0
    assert found["kura_model_up",] == 1
    assert found["kura_index_behind", "DenseIndex"] == 0
    assert found["kura_slots", "kura-270m"] == 8


def test_the_figures_are_for_administrators(
    client: TestClient, key_for: Callable[..., dict[str, str]]
) -> None:
    assert client.get(PATH).status_code == 401
    assert client.get(PATH, headers=key_for("ito", "admin")).status_code == 403
    assert client.get(PATH, headers=key_for("admin", "query")).status_code == 403
