"""Building a labelled, broad probe set in Broden's folder format from pictures that Debian ships."""

from cm_server.probes.build import build_probe_set
from cm_server.probes.packages import ProbeBuildError

__all__ = ["ProbeBuildError", "build_probe_set"]
