"""Circuit limits: a server takes so many requests at once and no more, however it is doing.

Envoy's circuit breakers cap connections, pending and active requests of a cluster, 1024 each by default, and answer 503 beyond. Here the
limit is each server's own: the gateway holds no queue, so all that is sent and not ended counts, and a server that stops answering keeps
at most so many requests (and connections) of the gateway's `Limits.in_flight`.
"""

from trimtab.core.observation import Mask
from trimtab.core.request_log import I64


def with_room(in_flight: I64, limit: int) -> Mask:
    """The servers that may be sent one more: fewer than `limit` requests in flight.  # [S] from [S]"""
    return in_flight < limit
