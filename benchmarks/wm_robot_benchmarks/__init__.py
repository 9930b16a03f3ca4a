"""Benchmarks: one module for each `wm-robot bench NAME`. Results name commit, seeds and bases."""
