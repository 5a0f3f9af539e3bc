"""Running pipelines: the loop from a source into topics, the loops from topics into sinks, and the
processes, signals and exit codes around them."""
