"""Who decides: classical, oracle and learned policies behind one protocol; `catalogue` is the only list of them."""
