"""Bounds that hold before anything is allocated. Sizes in bytes."""

MAX_HEADER = 16 * 1024
MAX_FRAME = 2**20
MAX_FRAMES = 2
"""A header and at most one array frame; larger arrays travel in chunks."""
MAX_TEXT = 4096
MAX_LAYERS = 64
MAX_UNITS = 65_536
MAX_PROBES = 65_536
MAX_IMAGE_SIDE = 512
MAX_MAP_SIDE = 64
MAX_CLASSES = 65_536
MAX_CAPTURE = 2**29
"""All activations of one capture together."""
MAX_PROBE_SET = 2**31
"""All images of one probe set together."""
MAX_AT_ONCE = 16_384
"""Captures of one session on their way or being analysed."""
MAX_ITEMS = 4096
"""Entries of any one list or map in a header."""
MAX_DEPTH = 4
DTYPES = frozenset({"|u1", "<i4", "<f2", "<f4"})
