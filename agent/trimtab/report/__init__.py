"""Tables and figures, from CSV files only."""
