"""
C{netsuite policy}.
"""

from __future__ import annotations

import click


@click.group()
def policy() -> None:
    """Check a policy file, and explain what it decides."""
