"""
Who somebody is by a user name and a token, as Twisted's credential checkers say; nothing is kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import ClassVar

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger

from twisted_netsuite.errors import ConfigurationError, Unauthenticated
from twisted_netsuite.trust.identity import NAME, Identity
from twisted_netsuite.wire.text import cleanText


class Token(UsernamePassword):
    """A user name with its token, compared so that the time it takes tells nothing of it."""

    def checkPassword(self, password: bytes) -> bool:
        """
        Compare.

        @param password: what a checker has for that user.
        @return: whether it is the token; a user whose password is empty has none.
        """
        return bool(password) and hmac.compare_digest(self.password, password)

    def __repr__(self) -> str:
        """Without the token: it may end in a log."""
        return f"Token({self.username!r}, ...)"


class TokenVerifier:
    """
    Asks credential checkers in turn, such as those that C{strcred} makes of C{--auth}.

    Whoever is refused is told one thing, whatever the cause: that a user exists is nobody's
    business. C{FilePasswordDB} reads its file again for each try, so what is changed there counts
    at once.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, checkers: Sequence[ICredentialsChecker]) -> None:
        """
        @param checkers: the first that knows the user and the token decides.
        @raise ConfigurationError: when there is none, or one that takes no passwords.
        """
        if not checkers:
            raise ConfigurationError("There is nothing to check tokens with; give --auth.")
        for checker in checkers:
            if not any(
                kind.isOrExtends(IUsernamePassword) for kind in checker.credentialInterfaces
            ):
                raise ConfigurationError(
                    f"{type(checker).__name__} checks no user names and passwords; give another "
                    "--auth, such as file:PATH."
                )
        self._checkers = list(checkers)

    def verify(self, user: str, token: str) -> Deferred[Identity]:
        """
        Find out whether a token is that user's.

        @param user: as the peer says.
        @param token: what it has to show.
        @return: fires with the identity, by the name that the checker knows the user by; fails with
            L{Unauthenticated}, always in the same words.
        """
        return Deferred.fromCoroutine(self._verify(user, token))

    async def _verify(self, user: str, token: str) -> Identity:
        if NAME.fullmatch(user) and token:
            credentials = Token(user.encode(), token.encode("utf-8", "surrogatepass"))
            for checker in self._checkers:
                name = await self._ask(checker, credentials)
                if name is not None:
                    return Identity("token", name)
        raise refusal()

    async def _ask(self, checker: ICredentialsChecker, credentials: Token) -> str | None:
        """Ask one checker; what goes wrong inside it is a refusal, and is logged."""
        try:
            avatar: object = await maybeDeferred(checker.requestAvatarId, credentials)
        except LoginFailed:
            return None
        except CancelledError:
            # Nobody waits any more, so the next checker need not be asked.
            raise
        except Exception as error:
            self.log.error(
                "{checker} could not check the token of {user}: {error}",
                checker=type(checker).__name__,
                user=credentials.username.decode(),
                error=_inWords(error, credentials),
            )
            return None
        name = avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else avatar
        if isinstance(name, str) and NAME.fullmatch(name):
            return name
        # An anonymous avatar, above all: whoever vouches for nobody proves nothing.
        self.log.error(
            "{checker} names no user where it was asked for {user}; the token is refused",
            checker=type(checker).__name__,
            user=credentials.username.decode(),
        )
        return None


def refusal() -> Unauthenticated:
    """
    Say that somebody is not let in.

    @return: the same for every cause.
    """
    return Unauthenticated("The user and the token are not accepted; see that both are right.")


def _inWords(error: Exception, credentials: Token) -> str:
    # A checker may quote what it was asked.
    text = str(error).replace(credentials.password.decode("utf-8", "replace"), "...")
    return f"{type(error).__name__}: {cleanText(text)}"
