"""Stand-ins: simulated robots in place of real ones, with differences from the model that no training saw."""
