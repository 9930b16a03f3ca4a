"""Training of a base: prequential loss over whole trajectories, with gradients through every update."""
