"""Binary JSON."""
