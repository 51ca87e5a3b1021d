"""Desired against reported: which jobs a fleet needs, what to offer each device, and what the devices say it costs them."""
