"""What an ONNX model and its data are: checked reading, facts, and samples as the model takes them. Public to plugins.

Importing this package imports no onnx; its modules do that. How models are changed is left to plugins.
"""
