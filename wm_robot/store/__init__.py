"""Snapshots of lifetime states: manifests, branches, references, garbage collection."""
