"""What is decided: one folder a problem, all with the same files; `catalogue` is the only list of them."""
