"""Measurements that only benchmarks need."""
