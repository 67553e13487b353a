"""What can be wrong with a store, in words."""


class StoreError(RuntimeError):
    """The store cannot be opened, written or read; the message names the path and the cure."""


class StoreInUseError(StoreError):
    """Another process writes the store."""
