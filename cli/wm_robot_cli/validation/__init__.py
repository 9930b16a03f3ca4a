"""Validation in MuJoCo: scenarios and plants of a battery, and their run in worker processes."""
