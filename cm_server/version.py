"""The distribution's version."""

from importlib import metadata

try:
    VERSION = metadata.version("concept-monitor")
except metadata.PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0+unknown"
