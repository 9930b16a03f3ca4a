"""Pure functions on arrays and tensors; no robot, model or file is used here."""
