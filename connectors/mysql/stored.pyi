"""Values as row images store them; for `connectors.mysql.rowimage`, nothing of it for Python."""
