"""What the metrics count of each request, with the labelled children looked up once."""

from prometheus_client import Counter

from klamm.errors import ErrorCode
from klamm.telemetry.metrics import KAFKA_REQUEST_TIME, KAFKA_REQUESTS


class RequestCounts:
    """One API's counters."""

    __slots__ = ("_api", "_by_error", "local_s", "remote_s")

    def __init__(self, api: str) -> None:
        self._api = api
        self._by_error: dict[int, Counter] = {}
        self.local_s = KAFKA_REQUEST_TIME.labels(api, "local").observe
        """Seconds from the frame to the answer, or to the wait for it."""
        self.remote_s = KAFKA_REQUEST_TIME.labels(api, "remote").observe
        """Seconds from the frame to the end of that wait."""

    def answered(self, error_code: int) -> None:
        """A response is made, with this error for the whole of it."""
        counter = self._by_error.get(error_code)
        if counter is None:
            counter = KAFKA_REQUESTS.labels(self._api, ErrorCode(error_code).name)
            self._by_error[error_code] = counter
        counter.inc()
