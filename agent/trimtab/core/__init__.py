"""Pure domain: scenarios, traffic, ledger, observation, reward, metrics. No torch, sockets, files, clocks or global chance."""
