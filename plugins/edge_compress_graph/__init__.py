"""Placeholder until its strategies land."""
