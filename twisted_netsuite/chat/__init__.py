"""Chat between people over UDP."""
