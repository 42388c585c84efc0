"""Bytes to messages and back, without I/O and without Twisted."""
