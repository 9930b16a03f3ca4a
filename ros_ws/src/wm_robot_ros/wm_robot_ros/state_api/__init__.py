"""State API: services, actions and topics of a lifetime state."""
