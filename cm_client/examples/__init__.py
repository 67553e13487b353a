"""Runnable examples, numbered in reading order, and the demo's training script. Importing this loads nothing."""
