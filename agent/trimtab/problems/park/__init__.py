"""Park's load balancing game: jobs of heavy-tailed sizes, ten servers of unequal speed, first in first out."""
