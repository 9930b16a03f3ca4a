"""Image features: an example of a camera whose images reach a robot as a vector of a few numbers."""
