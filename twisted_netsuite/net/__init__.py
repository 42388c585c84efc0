"""Twisted adapters that the services share."""
