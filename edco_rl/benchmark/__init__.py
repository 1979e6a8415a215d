"""Runs that train, measure and compare."""
