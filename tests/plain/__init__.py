"""Plain and slow versions of what the product has compiled: the tests' references."""
