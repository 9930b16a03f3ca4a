"""Safety layer between controller and motors: action gate, supervisor and guard. NumPy only, nothing learned."""
