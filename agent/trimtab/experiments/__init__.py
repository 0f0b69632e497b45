"""Loops that train and evaluate any policy on any problem, and the files they keep."""
