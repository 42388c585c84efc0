"""
What is known of chunks: it says what a dict of them would, however many there are, and takes no
more than a byte for each that is zeros.
"""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.files.digests import CHUNK, ZEROS, chunks
from twisted_netsuite.files.verified import MAX_FILE, Verified, missing, present, within

COUNT = 12
DIGESTS = (ZEROS, b"a" * 32, b"b" * 32)

_RANGES = st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)).map(
    lambda ends: (min(ends), max(ends) - min(ends))
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.integers(0, COUNT - 1), st.sampled_from(DIGESTS)),
        st.tuples(st.just("zeros"), _RANGES),
        st.tuples(st.just("discard"), _RANGES),
        st.tuples(st.just("pop"), st.integers(-2, COUNT + 1)),
    ),
    max_size=20,
)


class VerifiedTests(SynchronousTestCase):
    """A mapping."""

    @given(STEPS, _RANGES)
    def test_model(self, steps: list[tuple[Any, ...]], asked: tuple[int, int]) -> None:
        """Whatever is noted and dropped, it says what a dict says, in order, and in runs."""
        verified, model = Verified(COUNT), dict[int, bytes]()
        for name, *values in steps:
            if name == "one":
                index, digest = values
                verified[index] = model[index] = digest
            elif name == "pop":
                self.assertEqual(verified.pop(values[0], None), model.pop(values[0], None))
            elif name == "zeros":
                verified.addZeros(*values[0])
                model.update(dict.fromkeys(within(*values[0]), ZEROS))
            else:
                verified.discard(*values[0])
                for index in within(*values[0]):
                    model.pop(index, None)
        self.assertEqual(list(verified.items()), sorted(model.items()))
        self.assertEqual(dict(verified.items()), model)
        self.assertEqual((len(verified), bool(verified)), (len(model), bool(model)))
        self.assertEqual(verified.digests(), [model[index] for index in sorted(model)])
        told = [(at, digest) for *run, digest in verified.runs() for at in within(*run)]
        self.assertEqual(told, sorted(model.items()))
        runs = list(verified.runs())
        for (first, count, digest), (after, _, other) in itertools.pairwise(runs):
            self.assertFalse(first + count == after and digest == other)
        self.assertEqual(list(present(verified)), list(present(model)))
        self.assertEqual(list(missing(verified, *asked)), list(missing(model, *asked)))
        absent = [at for run in missing(model, *asked) for at in within(*run)]
        self.assertEqual(absent, [at for at in within(*asked) if at not in model])

    def test_absent(self) -> None:
        """What is not there cannot be looked up or dropped, whatever its index."""
        verified = Verified(3)
        for index in (-1, 0, 3, 2**62):
            self.assertNotIn(index, verified)
            self.assertRaises(KeyError, verified.__getitem__, index)
            self.assertRaises(KeyError, verified.__delitem__, index)
        self.assertNotIn("0", verified)

    def test_memory(self) -> None:
        """The largest file that can be, of zeros, takes 1 MiB, and is one run."""
        count = chunks(MAX_FILE)
        tracemalloc.start()
        try:
            verified = Verified(count)
            verified.addZeros(0, count // 2)
            for first in range(count // 2, count, 4096):
                verified.addZeros(first, 4096)
            self.assertEqual(list(verified.runs()), [(0, count, ZEROS)])
            self.assertEqual(list(verified.missing(0, count)), [])
            self.assertLess(tracemalloc.get_traced_memory()[0], 2 * CHUNK)
        finally:
            tracemalloc.stop()
