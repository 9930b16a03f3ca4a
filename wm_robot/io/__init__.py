"""Files, written whole or not at all; and what comes in as messages, checked before it is used."""
