"""Runs plans: strategy steps and measurements in child processes with limits, results cached by content."""
