"""Measures: experiments and statistics that only benchmarks use."""
