"""Pieces of PromQL that both dashboards use. Windows are Grafana's own variable, which fits them to the zoom and the scrape interval."""

from typing import Final

SERVER: Final = 'server=~"$server"'
BOTH: Final = 'server=~"$server",class=~"$class"'


def rate(metric: str, labels: str = "") -> str:
    """What a counter gains in a second."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def rate_by(by: str, metric: str, labels: str = "") -> str:
    """The same, summed to the labels `by`."""
    return f"sum by ({by}) ({rate(metric, labels)})"


def share_by(by: str, metric: str, labels: str) -> str:
    """Parts of a counter's whole rate; absent while nothing is counted, since a share of nothing is no number."""
    return f"{rate_by(by, metric, labels)} / on() group_left() (sum({rate(metric, labels)}) > 0)"


def quantile_by(by: str, part: float, metric: str, labels: str) -> str:
    """A quantile of a histogram, as fine as its buckets."""
    return f"histogram_quantile({part:g}, {rate_by(f'{by}, le', f'{metric}_bucket', labels)})"


def mean_by(by: str, metric: str, labels: str) -> str:
    """The mean of a histogram."""
    return f"{rate_by(by, f'{metric}_sum', labels)} / {rate_by(by, f'{metric}_count', labels)}"


# A gateway in Compose may be scraped under two names (prometheus/prometheus.yml): added up, its rates would be twice what they are.


def gateway(expr: str) -> str:
    """One gateway's series; of two at once the larger."""
    return f"max without (instance, gateway) ({expr})"


def gateway_rate_by(by: str, metric: str, labels: str = "") -> str:
    """As rate_by, of a gateway's counter."""
    return f"sum by ({by}) ({gateway(rate(metric, labels))})"


def gateway_part_by(by: str, part: str, whole: str) -> str:
    """One counter's rate over another's, each with its label matchers."""
    rates = [f"sum by ({by}) ({gateway(f'rate({one}[$__rate_interval])')})" for one in (part, whole)]
    return " / ".join(rates)


def gateway_quantile_by(by: str, part: float, metric: str, labels: str = "") -> str:
    """As quantile_by, of a gateway's histogram; without `by`, of all requests."""
    return f"histogram_quantile({part:g}, {gateway_rate_by(f'{by}, le' if by else 'le', f'{metric}_bucket', labels)})"
