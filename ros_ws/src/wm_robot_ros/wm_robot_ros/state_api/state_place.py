"""State place: the store and branch where an agent saves its lifetime state, and checks of it."""

from wm_robot.errors import SnapshotError
from wm_robot.store.store import Store, parse_reference


def open_store_branch(place: str) -> tuple[Store, str]:
    """Open the store of STORE or STORE@BRANCH, and return it with the branch.

    Raises:
        SnapshotError: If the place is empty.
    """
    if not place:
        raise SnapshotError("parameter 'save_to' is empty: this agent has no store. Start it with a store")
    return parse_reference(place)


def select_source(place: str, initial_state: str, *, resume: bool) -> str | None:
    """Return the reference of the first state of a process; None: the initial state.

    Args:
        place: STORE or STORE@BRANCH where the state is saved; empty: not saved.
        initial_state: Reference to start from; empty: the initial state of the base.
        resume: Whether a state that is saved in `place` takes precedence over `initial_state`.
    """
    if resume and place:
        store, branch = parse_reference(place)
        if branch in store.read_branches():
            return place
    return initial_state or None


def check_place(place: str, source: str | None) -> None:
    """Check that a state from `source` can be saved in `place` without replacing an unrelated state.

    Raises:
        SnapshotError: If `place` holds a state that `source` does not name, or is not writable.
    """
    if not place:
        return
    store, branch = parse_reference(place)
    store.check_writable()
    head = store.read_branches().get(branch)
    if head is None:
        return
    given = source or ""
    origin, reference = parse_reference(given)
    same = given and origin.folder.resolve() == store.folder.resolve()
    if not same or origin.resolve(reference) != head:
        raise SnapshotError(
            f"{place} holds a lifetime state, and initial_state is {given!r}. "
            f"Write initial_state:={place} to continue it, or name another branch: FOLDER@BRANCH"
        )
