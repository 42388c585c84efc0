"""Configuration and running of services: options, the TOML file, the suite."""
