"""Where requests go: the seam (`base`), the twin (`simulated`), live servers (`http`) and the processes behind them (`local`)."""
