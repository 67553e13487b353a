"""Rules read a layer's series and say what they find; the alert machine decides what becomes of it."""

from cm_server.rules.trend import find

__all__ = ["find"]
