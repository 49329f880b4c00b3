"""The machine's figures for Prometheus: this process's own, then those of `kura infer`.

A scraper brings an API key with the scope `admin` as its bearer token.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.sovereignty import egress, walls
from appliance.store import catalog, sources
from appliance.system import Appliance

router = APIRouter(tags=["admin: status"], prefix="/admin")


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(machine: ApplianceDep, caller: AdminCaller) -> PlainTextResponse:
    """Prometheus' text format. While `kura infer` is away its part is, and `kura_model_up` is 0."""
    registry = CollectorRegistry()
    registry.register(_Machine(machine))
    text = generate_latest(registry).decode() + machine.model_metrics()
    return PlainTextResponse(text, media_type=CONTENT_TYPE_LATEST)


class _Machine(Collector):
    def __init__(self, machine: Appliance) -> None:
        self._machine = machine

    def collect(self) -> list[Metric]:
        machine = self._machine
        counts = catalog.counts(machine.engine)
        head = catalog.head(machine.engine)
        documents = GaugeMetricFamily("kura_documents", "Documents, by state", labels=["state"])
        documents.add_metric(["ready"], counts.ready)
        documents.add_metric(["problem"], counts.problems)
        documents.add_metric(["waiting"], counts.documents - counts.ready - counts.problems)
        inside = GaugeMetricFamily("kura_files_inside", "Files inside documents", labels=["state"])
        inside.add_metric(["ready"], counts.inside - counts.inside_problems)
        inside.add_metric(["problem"], counts.inside_problems)
        behind = GaugeMetricFamily(
            "kura_index_behind", "Changes an index has not taken in yet", labels=["index"]
        )
        for index in machine.indexes:
            behind.add_metric([type(index).__name__], max(0, head - index.sequence))
        fresh = GaugeMetricFamily(
            "kura_source_fresh_seconds",
            "Since a source was last seen as a whole",
            labels=["source"],
        )
        withheld = GaugeMetricFamily(
            "kura_source_withheld",
            "Nobody finds its documents, since who may read them could not be asked",
            labels=["source"],
        )
        for source in sources.all(machine.engine):
            withheld.add_metric([source.name], source.withheld)
            if source.fresh_at:
                fresh.add_metric(
                    [source.name], (datetime.now(UTC) - source.fresh_at).total_seconds()
                )
        blocked = GaugeMetricFamily(
            "kura_blocked_connections", "Attempts to reach the outside", labels=["process"]
        )
        for process, count in ({"web": 0} | egress.counts(machine.settings.data)).items():
            blocked.add_metric([process], count)
        held = GaugeMetricFamily(
            "kura_walls_held", "Every wall held at the last sealed start", labels=["process"]
        )
        for found in walls.kept(machine.settings.data):
            held.add_metric([str(found["process"])], bool(found["held"]))
        return [
            GaugeMetricFamily("kura_model_up", "The model answers", machine.model_answers()),
            documents,
            inside,
            GaugeMetricFamily("kura_chunks", "Chunks in the catalogue", counts.chunks),
            behind,
            fresh,
            withheld,
            GaugeMetricFamily(
                "kura_free_bytes",
                "Free space where the data is",
                shutil.disk_usage(machine.settings.data).free,
            ),
            blocked,
            held,
        ]
