"""A plugin that cannot be imported."""

raise SystemExit("this plugin leaves on import")
