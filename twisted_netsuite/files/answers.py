"""
What the native files service answers with, apart from any session.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.messages import BUNDLE_SENTENCE, Bundled, Facts, Failed
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.wire.session import MAX_SENTENCE
from twisted_netsuite.wire.text import cleanText, shortened

_log = Logger()


def factsOf(attributes: Attributes) -> Facts:
    """
    Write attributes as a record has them.

    @param attributes: of a file or directory.
    @return: the same.
    """
    return Facts(
        directory=attributes.kind == "directory",
        size=attributes.size,
        mtime=attributes.mtime,
        mode=attributes.mode,
        version=attributes.version,
        room=attributes.room,
    )


def failed(id: int, error: NetsuiteError, kept: bool = False) -> Failed:
    """
    Write a failure as a record.

    @param id: of the request.
    @param error: what is wrong.
    @param kept: whether something is kept for another try.
    @return: the record.
    """
    sentence = shortened(cleanText(error.sentence), MAX_SENTENCE)
    return Failed(id=id, code=error.wireCode, message=sentence, kept=kept)


def refused(error: NetsuiteError) -> Bundled:
    """
    Write a failure of one file of a bundle.

    @param error: what is wrong.
    @return: for the record.
    """
    sentence = shortened(cleanText(error.sentence), BUNDLE_SENTENCE)
    return Bundled(code=error.wireCode, message=sentence)


def errorOf(failure: Failure) -> NetsuiteError:
    """
    Tell what a peer is told of a failure.

    @param failure: anything; what is a fault of the service goes into the log.
    @return: the error.
    """
    if isinstance(failure.value, NetsuiteError):
        return failure.value
    _log.failure("the service failed", failure)
    return NetsuiteError("The service failed; its log says why.")
