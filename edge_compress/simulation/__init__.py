"""Hollow agents: thousands of devices that speak the real protocol and run no model, to try a server's size and its rollouts."""
