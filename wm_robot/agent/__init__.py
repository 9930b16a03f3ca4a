"""What runs on the robot: the agent that reads and writes a life, and the loop that keeps it on time."""
