"""World model: encode, predict, update, imagine, and the files of a trained base."""
