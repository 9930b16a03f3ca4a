"""The world model: encode, predict, write, imagine, and the files that hold a trained base."""
