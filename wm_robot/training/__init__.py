"""Training the ability to learn: whole lifetimes, prequential loss, gradients through every write."""
