"""The analysis server: captures in, concept reports out."""
