"""What PostgreSQL's errors say of a store, in words. The driver need not be installed."""

from __future__ import annotations

_BY_STATE = {
    "53100": "there is no space left on its database's disk",
    "53300": "its database has too many connections",
    "55P03": "another process has locked its index",
    "40P01": "another process has locked its index",
    "25006": "its database is read-only",
    "42501": "its database does not let this user write",
    "57014": "its database ended the statement",
    "3D000": "its database does not exist",
    "28P01": "its database does not accept the password",
    "28000": "its database does not let this user in",
}
_BY_CLASS = {
    "08": "its database cannot be reached",
    "57": "its database is stopping or starting",
    "58": "its database reports an error of its disk",
    "XX": "its database reports damage",
}


def why_not(error: BaseException) -> str:
    """In words, why the database does not do as it is told; empty where the error says nothing of it.

    Args:
        error: what the driver raised; known by its SQLSTATE, so that the driver need not be installed.
    """
    if type(error).__module__.partition(".")[0] != "psycopg":
        return ""
    state = getattr(error, "sqlstate", None) or ""
    if state in _BY_STATE:
        return _BY_STATE[state]
    if state[:2] in _BY_CLASS:
        return _BY_CLASS[state[:2]]
    return "its database cannot be reached" if not state and type(error).__name__.endswith("OperationalError") else ""
