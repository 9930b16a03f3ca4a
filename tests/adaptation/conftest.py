"""The robot of one joint that tests of agents have."""

from tests.agent.conftest import spec

__all__ = ["spec"]
