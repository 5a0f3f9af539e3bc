"""Ensign: change data capture into encrypted, persistent, replayable topics, and onward."""
