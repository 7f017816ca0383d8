"""Numbers for Prometheus. Labels are routes and statuses: no id, name, address or reader.

medsam_request_seconds{method,route,status}  of an answer; of a stream of events until it begins
medsam_jobs_waiting, medsam_click_wait_seconds, medsam_encoder_calls_total
medsam_scan_bytes, medsam_embedding_bytes, medsam_store_bytes, medsam_disk_free_bytes, medsam_open_readings
process_*                                    of the process: memory, processor time, files
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from medsam.server.services import Services

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Of one server: two in a process do not add up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "medsam_request_seconds",
            "seconds until an answer was out",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_SECONDS,
        )
        ProcessCollector(registry=self._registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. route: a template, "" where none answered."""
        # whatever a client invents is one label
        labels = method if method in _METHODS else "other", route or "other", str(status)
        self._requests.labels(*labels).observe(seconds)

    def text(self, services: Services) -> bytes:
        """All numbers as they are now. Reads files' sizes: not for the event loop."""
        present = CollectorRegistry()
        present.register(_Present(services))
        return generate_latest(self._registry) + generate_latest(present)


class _Present:
    """What is asked of the services when somebody wants to know."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        cache = services.predictor.cache
        gauges = {
            "jobs_waiting": ("jobs in the worker's queue", services.worker.waiting),
            "click_wait_seconds": ("seconds that a click waits for the worker", services.pulse.seconds),
            "scan_bytes": ("of scans in memory", services.scans.bytes),
            "open_readings": ("sessions in memory", services.readings.live),
            "embedding_bytes": ("of embeddings in memory", cache.held_bytes),
            "store_bytes": ("of the database", _size(services)),
            "disk_free_bytes": ("on the disk of the store", shutil.disk_usage(services.store.folder).free),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"medsam_{name}", text, value)
        yield CounterMetricFamily("medsam_encoder_calls", "images that were encoded", cache.misses)


def _size(services: Services) -> int:
    files = services.store.folder.glob("medsam.db*")
    return sum(file.stat().st_size for file in files)
