"""Close: leads, contacts and opportunities."""
