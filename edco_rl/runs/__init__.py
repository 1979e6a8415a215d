"""One training or evaluation: set up, record, summarise."""
