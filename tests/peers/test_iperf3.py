"""
iperf3 through our proxy.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import freePort, started
from tests.peers.programs import Background, program, run

#: Bytes that iperf3 sends each way; it counts as received only what has come when the last is sent,
#: and the sockets on the way may hold some 20 MB then.
VOLUME = 200_000_000


class IperfTests(SynchronousTestCase):
    """iperf3 through our proxy."""

    def test_bothWays(self) -> None:
        """Control and data connections work together, and much data passes each way."""
        iperf3 = program("iperf3", "iperf3")
        port = freePort()
        server = Background(self, iperf3, "-s", "-B", "127.0.0.1", "-p", str(port), "--forceflush")
        server.expect(b"Server listening")
        proxy = started(
            self,
            *("netsuite-proxy", "--listen=tcp:0:interface=127.0.0.1"),
            f"--to=127.0.0.1:{port}",
        )
        for direction in ([], ["-R"]):
            front = str(proxy.place("proxy").port)
            words = ["-c", "127.0.0.1", "-p", front, "-n", str(VOLUME), "-J", *direction]
            end = json.loads(run(iperf3, *words))["end"]
            self.assertGreaterEqual(end["sum_sent"]["bytes"], VOLUME)
            self.assertGreater(end["sum_received"]["bytes"], VOLUME / 2)
        self.assertNotIn("Traceback", proxy.log())
