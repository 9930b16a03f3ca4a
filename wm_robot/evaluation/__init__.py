"""Protocols that decide whether to believe a base: open-loop error by steps lived, closed-loop error, controls."""
