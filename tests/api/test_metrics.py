"""The figures that a monitoring system of the site fetches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from appliance.api import create_app
from appliance.inference import metrics
from appliance.inference.metrics import Meter
from appliance.system import Appliance
from tests.api.conftest import ORIGIN

PATH = "/api/v1/admin/metrics"
MONITORING = Path(__file__).parents[2] / "installer" / "monitoring"
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


def test_alerts_and_dashboard_ask_for_figures_that_there_are(
    machine: Appliance, key_for: Callable[..., dict[str, str]]
) -> None:
    infer = Meter("kura-270m", lambda: dict.fromkeys((*metrics._COUNTED, *metrics._MEASURED), 1))
    infer.waited(1)
    app = create_app(replace(machine, model_metrics=lambda: infer.text().decode()))
    with TestClient(app, base_url=ORIGIN) as http:
        text = http.get(PATH, headers=key_for("admin", "admin")).text
    there = {f.name for f in text_string_to_metric_families(text)}
    there |= {s.name for f in text_string_to_metric_families(text) for s in f.samples}

    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text("utf-8"))
    (group,) = rules["groups"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    asked = [rule["expr"] for rule in group["rules"]]
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for expression in asked for name in re.findall(r"kura_\w+", expression)}
    assert len(names) >= 20
    assert names <= there | {"kura_source_fresh_seconds", "kura_source_withheld"}, names - there
    for rule in group["rules"]:
        assert " / " in rule["annotations"]["summary"], "in both languages"
        assert rule["annotations"]["description"], "what to do"
    (job,) = yaml.safe_load((MONITORING / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    assert job["metrics_path"] == PATH
