"""Echo and its sibling services: discard, chargen, daytime and time."""
