"""
Benchmarks of our services beside their peers: all of them in one run, on the same two CPUs.
"""
