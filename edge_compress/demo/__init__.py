"""The demo's scene: a really trained model, its data, a small fleet, and the processes that play it. ``cli.demo`` directs."""
