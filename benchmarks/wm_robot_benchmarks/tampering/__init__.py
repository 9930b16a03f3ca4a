"""Tampering: attacks that try to make a bundle reader accept untrusted content, or crash."""
