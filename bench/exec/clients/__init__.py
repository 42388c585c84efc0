"""
Clients that run commands, each a process of its own that does what it is told on standard input.
"""
