"""Kafka as the conformance suite drives it, through a broker that all cases of a process share."""
