"""What stands between any controller and the motors: gate, supervisor and guard. Numpy only, nothing learned."""
