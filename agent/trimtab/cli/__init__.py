"""One module a script; each has `main(argv) -> int`."""
