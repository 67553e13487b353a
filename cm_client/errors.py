"""The one error the client raises on purpose; its text names the thing, its value and the cure."""


class ClientError(RuntimeError):
    """The client cannot watch this model so. In a training loop it becomes one warning (``CM_STRICT=1`` raises)."""
