"""What goes wrong with a map, in words."""


class ProjectionError(ValueError):
    """No such projection; the message names value and cure."""
