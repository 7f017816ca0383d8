"""Numbers for Prometheus. Labels are routes and statuses: no id, name, address or reader.

medsam_request_seconds{method,route,status}  of an answer; of a stream of events until it begins
medsam_jobs_waiting, medsam_click_wait_seconds, medsam_encoder_calls_total
medsam_scan_bytes, medsam_embedding_bytes, medsam_store_bytes, medsam_disk_free_bytes, medsam_open_readings
process_*                                    of the process: memory, processor time, files
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress

from anyio import to_thread
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from medsam.server.services import Services
from medsam.store.database import StoreError
from medsam.store.store import Store

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

    async def text(self, services: Services) -> bytes:
        """All numbers as they are now."""
        present = _Present()
        # on the event loop, which changes what is counted here
        present.count(services)
        return await to_thread.run_sync(self._written, present, services.store)

    def _written(self, present: _Present, store: Store) -> bytes:
        present.measure(store)
        registry = CollectorRegistry()
        registry.register(present)
        return generate_latest(self._registry) + generate_latest(registry)


class _Present:
    """What is asked only when somebody wants to know."""

    def __init__(self) -> None:
        self._found: list[Metric] = []

    def count(self, services: Services) -> None:
        """What is in memory."""
        cache = services.predictor.cache
        self._gauge("jobs_waiting", "jobs in the worker's queue", services.worker.waiting)
        self._gauge("click_wait_seconds", "seconds that a click waits for the worker", services.pulse.seconds)
        self._gauge("open_readings", "sessions in memory", services.readings.live)
        self._gauge("propagations", "propagations that run, or will", services.readings.following)
        self._gauge("scan_bytes", "of scans in memory", services.scans.bytes)
        self._gauge("embedding_bytes", "of embeddings in memory", cache.held_bytes)
        self._found.append(CounterMetricFamily("medsam_encoder_calls", "images that were encoded", cache.misses))

    def measure(self, store: Store) -> None:
        """What is on the disk."""
        with suppress(StoreError):  # of a database that is away, nothing is said
            self._gauge("store_bytes", "of the database", store.size())
        self._gauge("disk_free_bytes", "on the disk of the store", shutil.disk_usage(store.folder).free)

    def _gauge(self, name: str, text: str, value: float) -> None:
        self._found.append(GaugeMetricFamily(f"medsam_{name}", text, value))

    def collect(self) -> Iterator[Metric]:
        yield from self._found
