"""Benchmark and dataset toolkit for reference-based super-resolution (Ref-SR)."""

__version__ = "0.1.0"
