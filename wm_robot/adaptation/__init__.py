"""What changes at run time besides memory: context bank, residual, shadow, learner process."""
