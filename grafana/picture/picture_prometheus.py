"""The few calls of Prometheus' HTTP API that a dashboard makes."""

from typing import Any

import requests
from picture_errors import PictureError, QueryError

TIMEOUT_S = 30.0

Series = list[dict[str, Any]]


class Prometheus:
    """A Prometheus server. Every call raises PictureError where the server does not answer or refuses the query."""

    def __init__(self, url: str) -> None:
        """Point at a base URL such as http://localhost:9090; nothing is sent yet."""
        self.url = url.rstrip("/")
        self._session = requests.Session()

    def over_range(self, query: str, from_s: float, to_s: float, step_s: float) -> Series:
        """Samples every step_s, at multiples of the step as Grafana asks for them."""
        start_s, end_s = (moment_s // step_s * step_s for moment_s in (from_s, to_s))
        data = self._get("query_range", {"query": query, "start": start_s, "end": end_s, "step": step_s})
        return [{"labels": series["metric"], "points": series["values"]} for series in data["result"]]

    def at(self, query: str, time_s: float) -> Series:
        """One sample of each series at a moment."""
        data = self._get("query", {"query": query, "time": time_s})
        if data["resultType"] == "scalar":
            return [{"labels": {}, "points": [data["result"]]}]
        return [{"labels": series["metric"], "points": [series["value"]]} for series in data["result"]]

    def label_values(self, label: str, selector: str, from_s: float, to_s: float) -> list[str]:
        """Values of a label, of the series that match the selector ("" for all)."""
        params: dict[str, Any] = {"start": from_s, "end": to_s}
        return list(self._get(f"label/{label}/values", params | ({"match[]": selector} if selector else {})))

    def _get(self, path: str, params: dict[str, Any]) -> Any:
        try:
            response = self._session.get(f"{self.url}/api/v1/{path}", params=params, timeout=TIMEOUT_S)
            answer = response.json()
        except requests.exceptions.JSONDecodeError:
            raise PictureError(f"{self.url} answers, but not as Prometheus does: check --prometheus") from None
        except requests.RequestException as error:
            advice = "start it, name another by --prometheus, or give --data"
            raise PictureError(f"no Prometheus answers at {self.url} ({type(error).__name__}): {advice}") from None
        if answer.get("status") != "success":
            raise QueryError(f"Prometheus refuses '{params.get('query', path)}': {answer.get('error', 'no reason given')}")
        return answer["data"]
