"""The placement game of LBNN: requests that hold CPU and memory of a server for a known number of ticks."""
