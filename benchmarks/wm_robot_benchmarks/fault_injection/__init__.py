"""Fault injection: faults in the numbers, streams and processes of a robot."""
