"""The learner. Knows arrays, not servers."""
