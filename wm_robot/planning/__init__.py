"""Planning: selects actions by predicted rollouts. It receives a model and imports none."""
