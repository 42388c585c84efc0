"""
Echo, remote exec, file transfer, UDP chat and a port-forwarding proxy, as Twisted services.

Importing this package has no side effect and loads no Twisted.
"""

__version__ = "0.1.0"
