"""A matrix of runs, methods by curricula by seeds by tasks, and its report."""
