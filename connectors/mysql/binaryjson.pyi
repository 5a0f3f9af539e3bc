"""JSON documents of MySQL, as its binary log has them, to the text that the server shows.

The compiled modules call ``put_json`` and ``put_json_patched``, which append to a text; when they
raise `JsonError`, what they have appended by then is for the caller to take off.
"""

from connectors.mysql.jsondiff import JsonError as JsonError

def json_text(data: bytes) -> bytes:
    """A document in binary JSON as UTF-8, byte for byte what ``SELECT`` of the column prints. No
    bytes at all are a JSON null, as the server takes them."""

def json_patched(old: bytes, diff: bytes) -> bytes:
    """The text of the document ``old`` after a partial update (binlog_row_value_options =
    PARTIAL_JSON); ``diff`` is the column's value in the after image, without its length."""
