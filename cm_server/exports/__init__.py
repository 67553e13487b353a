"""A run in other programs' formats; one module each, imported only when it is asked for."""
