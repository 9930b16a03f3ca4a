"""The robot of one joint, for agents that learn."""

from tests.agent.conftest import spec as spec
