"""The protocol's version: another major number is refused in words, a higher minor one is understood."""

VERSION = (1, 1)
