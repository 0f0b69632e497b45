"""The HTTP balancer that serves a policy."""
