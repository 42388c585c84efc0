"""
C{netsuite audit}.
"""

from __future__ import annotations

import click


@click.group()
def audit() -> None:
    """Verify and read audit logs."""
