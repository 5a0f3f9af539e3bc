"""MySQL and MariaDB: changes from the binary log, snapshots that meet the stream."""
