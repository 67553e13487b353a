"""Encoders: words and images in one space, found by name with `make_encoder`."""

from cm_server.encoders.base import Encoder, EncoderError, check_encoder
from cm_server.encoders.choose import make_encoder, make_text_encoder

__all__ = ["Encoder", "EncoderError", "check_encoder", "make_encoder", "make_text_encoder"]
