"""Pure maths on arrays; knows no robot, no model and no file."""
