"""What Prometheus is told."""

from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from threading import Lock

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from truefit.serving.served import Answers, Served

# Seconds: from what one row takes to what a client waits for.
BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = {"registry": self.registry}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = Counter(
            "truefit_requests", "Requests answered.", ["case", "api", "status"], **to
        )
        self.seconds = Histogram(
            "truefit_request_seconds", "From the first byte to the answer.", ["case", "api"],
            buckets=BUCKETS, **to,
        )  # fmt: skip
        self.in_flight = 0
        flying = Gauge("truefit_requests_in_flight", "Requests being answered.", **to)
        flying.set_function(lambda: self.in_flight)
        self.rows = Counter("truefit_rows", "Rows predicted.", ["case"], **to)
        self.warnings = Counter(
            "truefit_warnings", "Values unlike any in training.", ["case", "column", "kind"], **to
        )
        self.refused = Counter(
            "truefit_bundles_refused", "Bundles that could not be served.", ["case"], **to
        )
        self.lost = Counter(
            "truefit_request_log_lost", "Requests that the request log could not keep.", **to
        )
        self._predictions = Predictions()
        self.registry.register(self._predictions)
        # Looking a label set up takes longer than adding to it.
        self._requests = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._rows = cache(self.rows.labels)

    def serve(self, current: dict[str, Served]) -> None:
        """Show which bundles are served."""
        self._predictions.served = current
        for case in current:  # so that a rate can be taken from the first on
            self.rows.labels(case), self.refused.labels(case)

    def answered(self, case: str, api: str, status: int, seconds: float) -> None:
        """Count a request; ``case`` is empty if it was about none that is served."""
        self._requests(case, api, status).inc()
        self._seconds(case, api).observe(seconds)

    def predicted(self, served: Served, answers: Answers) -> None:
        """Count rows, where their predictions lie, and their warnings."""
        case = served.manifest.case
        self._rows(case).inc(len(answers.scores))
        self._predictions.add(served, answers.scores)
        for warned in answers.warnings:
            self.warnings.labels(case, warned.column, warned.kind).inc()

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)


class Predictions:
    """A histogram of the predictions of each case, whose limits are the deciles of its test rows.

    So each of the ten bins gets a tenth of the predictions as long as nothing changes.
    """

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self._counts: dict[str, list] = {}  # by case: the limits, the counts between them, the sum
        self._lock = Lock()

    def add(self, served: Served, scores: np.ndarray) -> None:
        """Count predictions; one that equals a limit lies below it."""
        deciles = served.manifest.deciles
        with self._lock:
            found = self._counts.get(served.manifest.case)
            if found is None or found[0] != deciles:  # another bundle, other limits
                found = [deciles, [0] * (len(deciles) + 1), 0.0]
                self._counts[served.manifest.case] = found
            _, counts, _ = found
            if len(scores) == 1:  # NumPy takes longer
                counts[bisect_left(deciles, scores[0])] += 1
            else:
                places, many = np.unique(np.searchsorted(deciles, scores), return_counts=True)
                for place, n in zip(places.tolist(), many.tolist(), strict=True):
                    counts[place] += n
            found[2] += float(scores.sum())

    def collect(self) -> Iterator:
        """What a registry asks of a collector."""
        info = GaugeMetricFamily(
            "truefit_model_info", "The bundle that is served.", labels=["case", "version", "model"]
        )
        for case, served in self.served.items():
            info.add_metric([case, served.version, served.manifest.model], 1)
        yield info
        histogram = HistogramMetricFamily(
            "truefit_predictions",
            "Predictions; probabilities of the positive class in a classification.",
            labels=["case"],
        )
        with self._lock:
            for case, (deciles, counts, total) in self._counts.items():
                limits = [*map(str, deciles), "+Inf"]
                buckets = list(zip(limits, accumulate(counts), strict=True))
                histogram.add_metric([case], buckets, total)
        yield histogram
