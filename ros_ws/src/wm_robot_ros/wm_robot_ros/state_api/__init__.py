"""Services, actions and topics of the lifetime state."""
