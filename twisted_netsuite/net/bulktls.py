"""
TLS in large steps: what Twisted does for each record of 16 KiB is done for all that is there.

A gigabyte takes half the CPU so, at either end (docs/decisions/tls-in-large-steps.md).
"""

from __future__ import annotations

from OpenSSL.SSL import Error as SSLError
from OpenSSL.SSL import WantReadError, ZeroReturnError
from twisted.internet.interfaces import ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

#: Bytes that a record holds at the most (RFC 8446, 5.1).
RECORD = 2**14

#: Bytes that are encrypted, or taken from the connection below, at once. The C library makes and
#: gives back pages of memory for each piece of 128 KiB or more, which can cost more than TLS does.
STEP = 120 * 1024


class BulkTLSTransport(BufferingTLSTransport):
    """TLS that encrypts, decrypts and passes on as much as there is."""

    def makeConnection(self, transport: ITransport) -> None:
        """Take more from the connection below at once, if that is a socket."""
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = STEP
        super().makeConnection(transport)

    def _write(self, data: bytes) -> None:
        """Encrypt, and hand over what that gives."""
        at = 0
        while at < len(data) and not self._lostTLSConnection:
            try:
                at += self._tlsConnection.send(data[at : at + STEP])
            except WantReadError:
                self._bufferedWrite(data[at:])
                return
            except SSLError:
                self._tlsShutdownFinished(Failure())
                return
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        """Hand over all that is encrypted."""
        assert self.transport is not None
        try:
            while True:
                data = self._tlsConnection.bio_read(STEP)
                self.transport.write(data)
                if len(data) < STEP:
                    return
        except WantReadError:
            return

    def _flushReceiveBIO(self) -> None:
        """Decrypt all that has come, pass it on in one piece, and only then see to an end."""
        while not self._lostTLSConnection:
            records: list[bytes] = []
            why = self._decrypt(records)
            if records and not self._aborted:
                ProtocolWrapper.dataReceived(self, b"".join(records))
            if isinstance(why, WantReadError):
                break
            if isinstance(why, ZeroReturnError):
                # The other end has said goodbye.
                self._shutdownTLS()
                self._tlsShutdownFinished(None)
            else:
                self._tlsShutdownFinished(Failure(why))
        self._flushSendBIO()

    def _decrypt(self, records: list[bytes]) -> SSLError:
        """Add all that can be decrypted now, and tell why there is no more of it."""
        try:
            while True:
                records.append(self._tlsConnection.recv(RECORD))
        except SSLError as error:
            return error
