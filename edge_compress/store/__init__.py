"""Durable state: resources, finished steps and usage in a database, and blobs in a folder."""
