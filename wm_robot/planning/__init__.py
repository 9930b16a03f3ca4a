"""Choosing actions by imagining them. Handed a model; imports none."""
