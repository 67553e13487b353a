"""Where reports live: array segments and a SQLite index. One writer (the server), any number of readers."""
