"""What can be wrong with a store, in words."""


class StoreError(RuntimeError):
    """The store cannot be opened, written or read; the message names the path and the cure."""


class StoreInUseError(StoreError):
    """Another process writes the store."""


class MissingBytesError(StoreError):
    """A file of arrays is not there; a reader that was overtaken by a compaction finds its bytes at another place."""
