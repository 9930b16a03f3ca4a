"""Sharing of lifetime states between robots: signed bundles, assimilation, pooling."""
