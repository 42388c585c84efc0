"""The netsuite program: arguments and output, no protocol logic."""
