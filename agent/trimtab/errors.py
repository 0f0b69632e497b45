"""Everything that can go wrong for a user, as one tree.

    TrimtabError                 exit code 1: the work failed
    |-- UsageError               exit code 2: the request made no sense
    |   `-- ScenarioError        a scenario file with a wrong key or value
    |-- FleetError               servers do not start, answer or agree
    |-- CheckpointError          a model file that is missing, broken or for something else
    |-- ResultsError             a results file that is taken, missing or malformed
    `-- GatewayError             the gateway was asked for what cannot be
        |-- NoServerError        no server is open to a request
        `-- RouterFullError      as many requests in flight as may be

Catch `TrimtabError` to handle them all. Each message is one line: what was found, what is allowed, what to do next.
"""


class TrimtabError(Exception):
    """Base of every error that a command prints as one line."""

    exit_code = 1


class UsageError(TrimtabError):
    """The request itself is wrong."""

    exit_code = 2


class ScenarioError(UsageError):
    """A scenario holds an unknown key or an impossible value."""


class FleetError(TrimtabError):
    """Servers do not start, do not answer, or are not what the scenario says."""


class CheckpointError(TrimtabError):
    """A model or resume file is missing, broken or made for something else."""


class ResultsError(TrimtabError):
    """A results file is taken, missing or malformed."""


class GatewayError(TrimtabError):
    """The gateway's books would no longer agree, such as a request that ends twice."""


class NoServerError(GatewayError):
    """No server is open to this request: all are out, or this request has tried them all."""


class RouterFullError(GatewayError):
    """As many requests are in flight as the gateway carries."""
