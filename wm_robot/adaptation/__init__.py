"""Run-time adaptation besides memory: context bank, residual, shadow evaluation and learner process."""
