"""Connectors: sources and sinks, one folder each. How to write one: README.md."""
