"""What one robot has from the lives of others."""
