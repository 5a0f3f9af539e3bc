"""Values as text results show them; for `connectors.mysql.textrows`, nothing of it for Python."""
