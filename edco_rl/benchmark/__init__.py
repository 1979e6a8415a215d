"""Methods x curricula x tasks x seeds: what the cells are, that they run, and what can be said of them."""
