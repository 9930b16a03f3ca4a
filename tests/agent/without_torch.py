"""A process that controls a robot: acts, lives, saves and goes on; prints what it loaded and how it grew.

python without_torch.py BASE SPEC STEPS WITH_GRAPHS
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.model.base import load_base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec


def resident() -> int:
    """Memory of this process, in KiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def main() -> None:
    folder, spec_file, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    spec = RobotSpec.from_dict(json.loads(Path(spec_file).read_text()))
    base = load_base(folder)
    graphs = load_functions(folder, base) if sys.argv[4] == "graphs" else None
    agent = Agent(
        base,
        spec,
        task="reach",
        planner=MppiConfig(num_samples=16, horizon=4, num_iterations=2, refine_iterations=0, num_elites=4),
        functions=graphs,
        plan_monitor=PlanMonitor(spec, task="reach"),
    )
    agent.begin(np.zeros(spec.action_dim, np.float32))
    rng, memory = np.random.default_rng(0), []
    goal, obs = np.full(3, 0.5, np.float32), np.zeros(spec.obs_dim, np.float32)
    for step in range(steps):
        if step % (steps // 8) == 0:
            memory.append(resident())
        action = agent.act(obs, goal)
        following = (0.9 * obs + rng.normal(size=spec.obs_dim)).astype(np.float32)
        agent.observe(obs, action, following, valid=step % 7 != 6)
        obs = following
    memory.append(resident())
    store = Path(spec_file).with_name("state")
    agent.save(store)
    agent.begin(action, store)
    agent.act(obs, goal)
    print(json.dumps({"torch": "torch" in sys.modules, "why": agent.torch_reason, "memory": memory,
                      **agent.counters}))  # fmt: skip


if __name__ == "__main__":
    main()
