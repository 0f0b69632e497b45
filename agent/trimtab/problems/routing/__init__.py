"""Route each HTTP request to one of several unequal servers."""
