"""Benchmarks against the peers: `make bench`. Each module with a `main()` is one; ratios are what counts."""
