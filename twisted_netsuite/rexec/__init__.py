"""Remote execution of commands."""
