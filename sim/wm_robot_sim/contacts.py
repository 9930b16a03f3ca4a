"""Contacts: the bodies of a robot that touch each other or their surroundings."""

import mujoco
import numpy as np

MAX_DISTANCE = 0.0
"""Distance of two geoms that touch, in m."""
NEIGHBOUR_LINKS = 2
"""Links up to this distance in the tree touch by design, and are left out."""


def find_touching_bodies(model: mujoco.MjModel, data: mujoco.MjData) -> list[tuple[str, str]]:
    """Find the pairs of bodies that touch at the positions of `data`, by name, sorted.

    Contacts of the model count, and links of one robot that overlap, whether the model lets them collide or not.
    Geoms without contact type and affinity are looks, and count nowhere.
    """
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_collision(model, data)
    found = set()
    for contact in data.contact[: data.ncon]:
        if contact.dist <= MAX_DISTANCE:
            found.add(_name_pair(model, int(contact.geom1), int(contact.geom2)))
    for first, second in _list_link_pairs(model):
        if _may_touch(model, data, first, second):
            distance = mujoco.mj_geomDistance(model, data, first, second, 0.1, np.zeros(6))
            if distance <= MAX_DISTANCE:
                found.add(_name_pair(model, first, second))
    return sorted(found)


def _list_link_pairs(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """List the pairs of solid geoms of links that are no neighbours in the tree."""
    solid = [
        geom
        for geom in range(model.ngeom)
        if (model.geom_contype[geom] or model.geom_conaffinity[geom]) and model.geom_bodyid[geom]
    ]
    return [
        (first, second)
        for at, first in enumerate(solid)
        for second in solid[at + 1 :]
        if _count_links(model, int(model.geom_bodyid[first]), int(model.geom_bodyid[second]))
        > NEIGHBOUR_LINKS
    ]


def _count_links(model: mujoco.MjModel, first: int, second: int) -> int:
    """Count the links between two bodies along the tree."""
    above = [first]
    while above[-1]:
        above.append(int(model.body_parentid[above[-1]]))
    steps = 0
    while second not in above:
        second, steps = int(model.body_parentid[second]), steps + 1
    return steps + above.index(second)


def _may_touch(model: mujoco.MjModel, data: mujoco.MjData, first: int, second: int) -> bool:
    """Whether the bounding spheres of two geoms overlap."""
    distance = np.linalg.norm(data.geom_xpos[first] - data.geom_xpos[second])
    return bool(distance <= model.geom_rbound[first] + model.geom_rbound[second])


def _name_pair(model: mujoco.MjModel, first: int, second: int) -> tuple[str, str]:
    names = [model.body(int(model.geom_bodyid[geom])).name or "world" for geom in (first, second)]
    return min(names), max(names)
