"""What can go wrong, as errors whose message is printed as one line."""


class PictureError(Exception):
    """The picture cannot be drawn. The message is one line: what was found, what is allowed, what to do next."""


class QueryError(PictureError):
    """Prometheus refuses a query. Whoever knows which panel asked says so in front of the message."""
