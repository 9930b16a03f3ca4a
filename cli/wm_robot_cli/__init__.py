"""Command line `wm-robot VERB`: parses options, creates the parts and runs them. Only this package prints."""
