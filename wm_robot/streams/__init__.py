"""Messages as checked arrays: rejection, alignment, source lock, command buffer."""
