"""
The stores of one service, one for each root; which of them holds what is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from twisted_netsuite.errors import NotFound
from twisted_netsuite.files.namelocks import NameLocks
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.store import Attributes, Store


class Roots:
    """
    The stores of one service, each opened when it is first asked for.

    @ivar own: the path of the service's own root.
    @ivar locks: names in them that are in use.
    """

    def __init__(self, own: str, make: Callable[[str], Store]) -> None:
        """
        @param own: the service's own root: a whole path, written the shortest way.
        @param make: opens a store, given the whole path of its root; raises L{ConfigurationError}
            when it cannot be opened.
        """
        self.own = own
        self.locks = NameLocks()
        self._make = make
        self._lock = Lock()
        self._stores: dict[str, Store] = {}

    @property
    def stores(self) -> list[Store]:
        """All that are open."""
        with self._lock:
            return list(self._stores.values())

    def at(self, root: str) -> Store:
        """
        Give the store of a root; this blocks, if it is not open yet.

        @param root: a whole path, as L{Place.root} has it.
        @return: always the same, until L{close}.
        @raise ConfigurationError: when it cannot be opened; it is tried anew the next time.
        """
        store = self._stores.get(root)
        if store is not None:
            return store
        with self._lock:
            if root not in self._stores:
                self._stores[root] = self._make(root)
            return self._stores[root]

    def look(self, root: str, parts: Parts) -> Attributes | None:
        """
        Look at a file or directory; this blocks.

        @param root: where.
        @param parts: its name.
        @return: what is known of it; C{None} when there is none.
        @raise NetsuiteError: when that cannot be told.
        """
        try:
            return self.at(root).stat(parts)
        except NotFound:
            return None

    def close(self) -> None:
        """Close all of them; they are opened again when they are asked for."""
        with self._lock:
            stores, self._stores = self._stores, {}
        for store in stores.values():
            store.close()
