"""
The clients of the crowd: programs of their own, which do as they are told.
"""
