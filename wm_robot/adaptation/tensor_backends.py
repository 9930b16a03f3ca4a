"""Context bank and shadow evaluation on torch tensors, for experiments that compute with many states at once."""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from wm_robot.adaptation.context_bank import Recall, RecallConfig
from wm_robot.adaptation.shadow import Trial, TrialConfig, believing, without_one
from wm_robot.memory.memory import State
from wm_robot.model.backend import Lives
from wm_robot.model.torch_backend import ModelLives, TensorWrites, array, arrays, tensors
from wm_robot.model.world_model import WorldModel


class TensorRecall(TensorWrites):
    """`Recall` of a model or of its graphs, on tensors."""

    lives: Recall

    def __init__(self, lives: WorldModel | Lives, config: RecallConfig | None = None):
        super().__init__(Recall(_lives(lives), config))
        self.config = self.lives.config

    def birth(self, state: State) -> State:
        return tensors(self.lives.birth(arrays(state)))

    def anew(self, state: State) -> State:
        return tensors(self.lives.anew(arrays(state)))

    def back(self, state: State, before: State) -> State:
        return tensors(self.lives.back(arrays(state), arrays(before)))

    def merge(self, life: State, states: Sequence[State]) -> State:
        return tensors(self.lives.merge(arrays(life), [arrays(each) for each in states]))


class TensorTrial(TensorWrites):
    """`Trial` of a model on tensors."""

    lives: Trial

    def __init__(
        self, lives: WorldModel, recall: TensorRecall | None = None, config: TrialConfig | None = None
    ):
        super().__init__(Trial(ModelLives(lives), recall.lives if recall else None, config))

    def birth(self, state: State) -> State:
        return tensors(self.lives.birth(arrays(state)))

    def tried(self, state: State, residual: State, chosen: Bool[Tensor, "B"]) -> State:
        return tensors(self.lives.tried(arrays(state), arrays(residual), array(chosen)))


def believing_tensors(state: State, residual: State) -> State:
    """See `trial.believing`."""
    return tensors(believing(arrays(state), arrays(residual)))


def without_one_tensors(state: State) -> State:
    """See `trial.without_one`."""
    return tensors(without_one(arrays(state)))


def _lives(lives: WorldModel | Lives) -> Lives:
    return ModelLives(lives) if isinstance(lives, WorldModel) else lives
