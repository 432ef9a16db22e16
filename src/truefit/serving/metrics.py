"""What Prometheus is told."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from threading import Lock
from time import monotonic

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

from truefit.serving.challenger import CHAMPION, Pair
from truefit.serving.served import Answers, Served

# Seconds: from what one row takes to what a client waits for.
BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
FRESH = 0.1  # seconds
APART = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)  # shares, or probabilities


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
        # Of challengers; without one these have no series.
        self.by_role = Counter(
            "truefit_requests_by_role", "Requests answered while there is a challenger, by whom.",
            ["case", "role"], **to,
        )  # fmt: skip
        self.challenger_failed = Counter(
            "truefit_challenger_failed", "Requests that the champion can answer and the challenger "
            "cannot.", ["case"], **to,
        )  # fmt: skip
        self.shadow_dropped = Counter(
            "truefit_shadow_dropped", "Requests that the challenger had no time for.", ["case"],
            **to,
        )  # fmt: skip
        self._text, self._written = b"", -FRESH
        self._predictions = Predictions()
        self.registry.register(self._predictions)
        # Looking a label set up takes longer than adding to it.
        self._requests = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._rows = cache(self.rows.labels)
        self._by_role = cache(self.by_role.labels)

    def serve(self, current: dict[str, Served], pairs: dict[str, Pair] | None = None) -> None:
        """Show which bundles are served, and which have a challenger."""
        self._predictions.served, self._predictions.pairs = current, pairs or {}
        for case in self._predictions.pairs:
            self.challenger_failed.labels(case), self.shadow_dropped.labels(case)
        for case in current:  # so that a rate can be taken from the first on
            self.rows.labels(case), self.refused.labels(case)

    def answered(self, case: str, api: str, status: int, seconds: float) -> None:
        """Count a request; ``case`` is empty if it was about none that is served."""
        self._requests(case, api, status).inc()
        self._seconds(case, api).observe(seconds)

    def predicted(self, served: Served, answers: Answers, role: str = CHAMPION) -> None:
        """Count rows, where the champion's predictions lie, and the warnings."""
        case = served.manifest.case
        self._rows(case).inc(len(answers.scores))
        if role == CHAMPION:  # the limits of the histogram are its own
            self._predictions.add(served, answers.scores)
        for unlike in answers.unlike:
            self.warnings.labels(case, unlike.column.name, unlike.kind).inc(len(unlike.rows))

    def met(self, case: str, role: str) -> None:
        """Count a request by the role of the model that answered it."""
        self._by_role(case, role).inc()

    def differed(self, case: str, far: np.ndarray) -> None:
        """Count how far a challenger's predictions are from the champion's; see `APART`."""
        self._predictions.differed(case, far)

    def text(self) -> bytes:
        """All of it in Prometheus's text format, as it was at most `FRESH` seconds ago.

        Writing it takes as long as many predictions, and whoever asks for it needs no key.
        """
        if monotonic() - self._written > FRESH:
            self._text, self._written = generate_latest(self.registry), monotonic()
        return self._text


class Bins:
    """How many numbers lie between limits; one that equals a limit lies below it.

    Parameters
    ----------
    limits : sequence of float
    """

    def __init__(self, limits: Sequence[float]):
        self.limits = limits
        self._counts, self._sum = [0] * (len(limits) + 1), 0.0

    def add(self, values: np.ndarray) -> None:
        """Count some."""
        if len(values) == 1:  # NumPy takes longer
            self._counts[bisect_left(self.limits, values[0])] += 1
        else:
            places, many = np.unique(np.searchsorted(self.limits, values), return_counts=True)
            for place, n in zip(places.tolist(), many.tolist(), strict=True):
                self._counts[place] += n
        self._sum += float(values.sum())

    def put(self, family: HistogramMetricFamily, case: str) -> None:
        """Add the histogram of a case to its family."""
        limits = [*map(str, self.limits), "+Inf"]
        family.add_metric(
            [case], list(zip(limits, accumulate(self._counts), strict=True)), self._sum
        )


class Predictions:
    """A histogram of the predictions of each case, whose limits are the deciles of its test rows.

    So each of the ten bins gets a tenth of the predictions as long as nothing changes. Beside it,
    how far the predictions of a challenger are from these.
    """

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self.pairs: dict[str, Pair] = {}
        self._predicted: dict[str, Bins] = {}
        self._apart: dict[str, Bins] = {}
        self._lock = Lock()

    def add(self, served: Served, scores: np.ndarray) -> None:
        """Count predictions."""
        deciles = served.manifest.deciles
        with self._lock:
            found = self._predicted.get(served.manifest.case)
            if found is None or found.limits != deciles:  # another bundle, other limits
                found = self._predicted[served.manifest.case] = Bins(deciles)
            found.add(scores)

    def differed(self, case: str, far: np.ndarray) -> None:
        """Count distances of a challenger's predictions from the champion's."""
        with self._lock:
            self._apart.setdefault(case, Bins(APART)).add(far)

    def collect(self) -> Iterator:
        """What a registry asks of a collector."""
        info = GaugeMetricFamily(
            "truefit_model_info", "The bundle that is served.", labels=["case", "version", "model"]
        )
        for case, served in self.served.items():
            info.add_metric([case, served.version, served.manifest.model], 1)
        yield info
        challengers = GaugeMetricFamily(
            "truefit_challenger_info", "The bundle beside the one that is served.",
            labels=["case", "version"],
        )  # fmt: skip
        for case, pair in self.pairs.items():
            challengers.add_metric([case, pair.challenger.version], 1)
        yield challengers
        histogram = HistogramMetricFamily(
            "truefit_predictions",
            "Predictions; probabilities of the positive class in a classification.",
            labels=["case"],
        )
        differences = HistogramMetricFamily(
            "truefit_shadow_difference",
            "How far the challenger's predictions are from the champion's: as a share of the "
            "larger one; probabilities as they are.",
            labels=["case"],
        )
        with self._lock:
            for family, counted in ((histogram, self._predicted), (differences, self._apart)):
                for case, bins in counted.items():
                    bins.put(family, case)
        yield histogram
        yield differences
