"""Place of a lifetime state: the store and branch where an agent saves it, and what an agent may do there."""

from wm_robot.errors import SnapshotError
from wm_robot.store.store import Store, opened


def open_place(place: str) -> tuple[Store, str]:
    """Store and branch of STORE or STORE@BRANCH.

    Raises:
        SnapshotError: If the place is empty.
    """
    if not place:
        raise SnapshotError("parameter 'state' is empty: this agent has no store. Start it with one")
    return opened(place)


def select_source(place: str, restore: str, *, resume: bool) -> str | None:
    """What the first state of a process goes on from; None: the initial state.

    Args:
        resume: What a process that ended saved last in `place` takes precedence over `restore`.
    """
    if resume and place:
        store, branch = opened(place)
        if branch in store.branches():
            return place
    return restore or None


def check_place(place: str, source: str | None) -> None:
    """Check that a state from `source` can be saved in `place`, and replaces none there that it does not go on from.

    Raises:
        SnapshotError: If `place` holds a state that `source` does not name, or nothing can be saved there.
    """
    if not place:
        return
    store, branch = opened(place)
    store.check_writable()
    head = store.branches().get(branch)
    if head is None:
        return
    given = source or ""
    origin, reference = opened(given)
    same = given and origin.folder.resolve() == store.folder.resolve()
    if not same or origin.find(reference) != head:
        raise SnapshotError(
            f"state {place} holds a life, and restore is {given!r}. "
            f"Write restore:={place} to go on with it, or name another branch: FOLDER@BRANCH"
        )
