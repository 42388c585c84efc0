"""
Long runs of faults. Trial finds none of them by itself, as no module is named C{test_}: they are
started by name, with C{make soak}.
"""
