"""A port-forwarding proxy."""
