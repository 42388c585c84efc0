"""File transfer, confined to one directory."""
