"""Harness of all benches: options, the table of benches, results, worker processes and the load of the host."""
