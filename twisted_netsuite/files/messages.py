"""
The records of the native files protocol; docs/protocol/files.md tells what they mean together.

What follows a C{body} outside frames is no record. What may come when is in L{files.machine}.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from twisted_netsuite.wire.session import MAX_SENTENCE, Record, Word

#: What HELLO asks for.
SERVICE = "files"

#: Bytes of a frame: lists are cut into records that fit, and contents stand outside frames.
FRAME = 256 * 1024

#: Bytes of a name, as in L{files.names}, with some room for what is refused with a better sentence.
MAX_NAME = 8192

#: Requests of one session that are not answered yet: enough to keep the disk busy over any link
#: with files of some kilobytes.
MAX_OPEN = 1024

#: Bytes of names that one record of a list holds, about, and entries at the most.
LIST_BYTES, LIST_ENTRIES = 64 * 1024, 512

#: Digests that one HAVE holds.
MAX_DIGESTS = 4096

#: Bytes that tell a source apart.
MAX_SOURCE = 128

#: Files of one bundle at the most, bytes of all of them, and of their names about: enough that what
#: a request costs does not count beside them, and little enough to be held in memory whole. With
#: facts or a sentence for each a record of them fits into a frame.
BUNDLE_FILES, BUNDLE_BYTES, BUNDLE_NAMES = 256, 2**20, 64 * 1024

#: Characters of a sentence about one file of a bundle.
BUNDLE_SENTENCE = 224

Id = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[bytes, Meta(max_length=MAX_NAME)]
Size = Annotated[int, Meta(ge=0, le=2**62)]
Index = Annotated[int, Meta(ge=0, le=2**43)]
Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Mode = Annotated[int, Meta(ge=0, le=0o777)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Token = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What is known of a file or directory.

    @ivar directory: whether it is one.
    @ivar size: bytes of a file.
    @ivar mtime: nanoseconds since 1970.
    @ivar mode: permission bits.
    @ivar version: others whenever the contents may be others.
    @ivar room: bytes that a file takes without its holes, where it is known to have some.
    """

    directory: bool = False
    size: Size = 0
    mtime: Time = 0
    mode: Mode = 0
    version: Token
    room: Size | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One entry of a list.

    @ivar name: in its directory; in a manifest from the directory on that was asked for.
    @ivar facts: what is known of it.
    @ivar digest: that of a file, where a manifest was to have them.
    """

    name: Name
    facts: Facts
    digest: Digest | None = None


class Request(Record, frozen=True, kw_only=True):
    """
    Client to server.

    @ivar id: a number that is greater than those of all requests before it on this session; a
        record about a request has that of the request.
    """

    id: Id


class Stat(Request, frozen=True, kw_only=True, tag="stat", tag_field="type"):
    """
    What is this? Answered by DONE with facts.

    @ivar name: which.
    """

    name: Name


class List(Request, frozen=True, kw_only=True, tag="list", tag_field="type"):
    """
    What is in this directory? Answered by ENTRIES, and DONE.

    @ivar name: which.
    """

    name: Name


class Manifest(Request, frozen=True, kw_only=True, tag="manifest", tag_field="type"):
    """
    What is in this directory and all below it? Each directory comes before what is in it.

    @ivar name: which.
    @ivar digests: whether to tell those of files.
    """

    name: Name
    digests: bool = False


class Hash(Request, frozen=True, kw_only=True, tag="hash", tag_field="type"):
    """
    What is the digest of this file? Answered by DONE with facts and digest.

    @ivar name: which.
    """

    name: Name


class Get(Request, frozen=True, kw_only=True, tag="get", tag_field="type"):
    """
    Send this file: FOUND, BODY and HOLES in order, and DONE.

    @ivar name: which.
    @ivar first: the first chunk to send.
    @ivar count: how many chunks; all behind the first where there is none.
    @ivar version: which version it must be, where that is known.
    """

    name: Name
    first: Index = 0
    count: Index | None = None
    version: Token | None = None


class Put(Request, frozen=True, kw_only=True, tag="put", tag_field="type"):
    """
    Take this file: HAVE as often as needed and READY, then BODY and HOLES, COMMIT, and DONE.

    @ivar name: which it will be.
    @ivar size: its bytes.
    @ivar mtime: what it gets; the time of its publishing where there is none.
    @ivar mode: permission bits; the usual ones where there are none.
    @ivar clobber: whether it may replace a file.
    @ivar replaces: the digest that the file must have that it replaces.
    @ivar source: tells its source apart, and that it has not changed since an earlier try.
    @ivar durable: whether it has to be on the disk before DONE; the server may do so anyway.
    @ivar room: bytes that it will take without its holes, where that is known: then it is refused
        at once when there is not so much.
    @ivar follows: whether the file is one chunk, which comes at once: READY is not sent then, and
        nothing of it is kept for another try.
    """

    name: Name
    size: Size
    mtime: Time | None = None
    mode: Mode | None = None
    clobber: bool = True
    replaces: Digest | None = None
    source: Annotated[bytes, Meta(min_length=1, max_length=MAX_SOURCE)] | None = None
    durable: bool = True
    room: Size | None = None
    follows: bool = False


class Join(Request, frozen=True, kw_only=True, tag="join", tag_field="type"):
    """
    Take a part of a file that another connection of the same identity puts: READY, then BODY and
    HOLES, COMMIT, and DONE as soon as they are written.

    @ivar upload: what that one's READY said.
    """

    upload: Token


class Commit(Request, frozen=True, kw_only=True, tag="commit", tag_field="type"):
    """
    All has been sent: publish it.

    @ivar digest: of the whole file; none of what was only a part.
    """

    digest: Digest | None = None


class Cancel(Request, frozen=True, kw_only=True, tag="cancel", tag_field="type"):
    """
    Break it off; answered by FAILED, or by DONE if that was on its way.

    @ivar keep: whether what has come of a file shall be kept for another try.
    """

    keep: bool = True


class MakeDirectory(Request, frozen=True, kw_only=True, tag="mkdir", tag_field="type"):
    """
    Make a directory; one that is there is left as it is.

    @ivar name: which.
    @ivar mode: permission bits; the usual ones where there are none.
    @ivar parents: whether to make those above it, too.
    """

    name: Name
    mode: Mode | None = None
    parents: bool = False


class Rename(Request, frozen=True, kw_only=True, tag="rename", tag_field="type"):
    """
    Give it another name.

    @ivar name: which.
    @ivar to: the new one.
    @ivar clobber: whether a file of that name is replaced.
    """

    name: Name
    to: Name
    clobber: bool = True


class Remove(Request, frozen=True, kw_only=True, tag="remove", tag_field="type"):
    """
    Remove a file or an empty directory.

    @ivar name: which.
    """

    name: Name


class Change(Request, frozen=True, kw_only=True, tag="change", tag_field="type"):
    """
    Change what is known of it.

    @ivar name: which.
    @ivar mode: permission bits.
    @ivar mtime: nanoseconds since 1970.
    """

    name: Name
    mode: Mode | None = None
    mtime: Time | None = None


class Found(Request, frozen=True, kw_only=True, tag="found", tag_field="type"):
    """
    Server to client: this is what is sent.

    @ivar facts: of the file.
    """

    facts: Facts


class Chosen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A small file that is wanted.

    @ivar name: which.
    @ivar version: which version it must be, where that is known.
    """

    name: Name
    version: Token | None = None


class GetBundle(Request, frozen=True, kw_only=True, tag="get-bundle", tag_field="type"):
    """
    Send these small files whole: BUNDLE, and DONE.

    @ivar files: which.
    """

    files: Annotated[tuple[Chosen, ...], Meta(min_length=1, max_length=BUNDLE_FILES)]


class Offered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A small file that comes.

    @ivar name: which it will be.
    @ivar size: its bytes.
    @ivar mtime: what it gets; the time of its publishing where there is none.
    @ivar mode: permission bits; the usual ones where there are none.
    @ivar digest: its digest.
    """

    name: Name
    size: Annotated[int, Meta(ge=0, le=BUNDLE_BYTES)] = 0
    mtime: Time | None = None
    mode: Mode | None = None
    digest: Digest


class PutBundle(Request, frozen=True, kw_only=True, tag="put-bundle", tag_field="type"):
    """
    Take these small files, whose bytes follow this frame one behind the other: BUNDLE, and DONE.

    @ivar files: which they will be.
    @ivar clobber: whether they may replace files.
    @ivar durable: whether they have to be on the disk before DONE.
    """

    files: Annotated[tuple[Offered, ...], Meta(min_length=1, max_length=BUNDLE_FILES)]
    clobber: bool = True
    durable: bool = True


class Body(Request, frozen=True, kw_only=True, tag="body", tag_field="type"):
    """
    Either way: a chunk, whose bytes follow this frame.

    @ivar index: which.
    @ivar length: its bytes: those of a whole chunk, or of the file's last.
    @ivar digest: its digest.
    """

    index: Index
    length: Annotated[int, Meta(ge=0, le=2**20)]
    digest: Digest


class Holes(Request, frozen=True, kw_only=True, tag="holes", tag_field="type"):
    """
    Either way: chunks that hold nothing but zeros.

    @ivar index: the first of them.
    @ivar count: how many.
    """

    index: Index
    count: Annotated[int, Meta(ge=1, le=2**43)]


class Have(Request, frozen=True, kw_only=True, tag="have", tag_field="type"):
    """
    Server to client: these chunks are there from an earlier try.

    @ivar index: the first of them.
    @ivar digests: theirs, one behind the other.
    """

    index: Index
    digests: Annotated[bytes, Meta(min_length=32, max_length=32 * MAX_DIGESTS)]


class Ready(Request, frozen=True, kw_only=True, tag="ready", tag_field="type"):
    """
    Server to client: send what is missing.

    @ivar upload: for JOIN.
    """

    upload: Token


class Bundled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What became of one file of a bundle.

    @ivar facts: what it is, if it is; of one that is too large for the bundle without a digest.
    @ivar digest: that of its contents, which are in the bundle, or were published.
    @ivar code: why it is not, one of the wire codes of L{errors}.
    @ivar message: a sentence for a person.
    """

    facts: Facts | None = None
    digest: Digest | None = None
    code: Word | None = None
    message: Annotated[str, Meta(max_length=BUNDLE_SENTENCE)] = ""


class Bundle(Request, frozen=True, kw_only=True, tag="bundle", tag_field="type"):
    """
    Server to client: what became of the files of a bundle, in its order; of those that were asked
    for, the bytes follow this frame one behind the other.

    @ivar files: what became of each.
    @ivar length: bytes that follow.
    """

    files: Annotated[tuple[Bundled, ...], Meta(min_length=1, max_length=BUNDLE_FILES)]
    length: Annotated[int, Meta(ge=0, le=BUNDLE_BYTES)] = 0


class Entries(Request, frozen=True, kw_only=True, tag="entries", tag_field="type"):
    """
    Server to client: a part of a list.

    @ivar entries: in no order; in a manifest, each directory before what is in it.
    """

    entries: Annotated[tuple[Listed, ...], Meta(max_length=LIST_ENTRIES)]


class Done(Request, frozen=True, kw_only=True, tag="done", tag_field="type"):
    """
    Server to client: it is done.

    @ivar facts: what it is now, where that was asked or has changed.
    @ivar digest: of the whole file, where that is known.
    """

    facts: Facts | None = None
    digest: Digest | None = None


class Failed(Request, frozen=True, kw_only=True, tag="failed", tag_field="type"):
    """
    Server to client: it cannot be done, or not further.

    @ivar code: one of the wire codes of L{errors}.
    @ivar message: a sentence for a person.
    @ivar kept: whether something of a file is kept for another try.
    """

    code: Word
    message: Annotated[str, Meta(max_length=MAX_SENTENCE)]
    kept: bool = False


#: What a server takes, and what it sends; BODY and HOLES are both.
REQUESTS = (
    *(Stat, List, Manifest, Hash, Get, Put, Join, Commit, Cancel),
    *(MakeDirectory, Rename, Remove, Change, Body, Holes),
    *(GetBundle, PutBundle),
)
ANSWERS = (Found, Have, Ready, Bundle, Entries, Done, Failed)

RECORDS = (*REQUESTS, *ANSWERS)
