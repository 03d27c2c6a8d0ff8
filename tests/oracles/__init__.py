"""Plain implementations of what the project computes in faster ways: what tests and benchmarks compare with."""
