"""The agent: what runs on a device. It fetches, checks, tries and serves the artifact assigned to it, and reports its cost.

``loop`` joins the parts. The parent process holds grpc and protobuf only; numpy and onnxruntime live in the child (``runner``).
"""
