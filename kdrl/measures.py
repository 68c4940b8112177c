"""A policy under corruptions and attacks, before unknown frames, and why it does what it does.

What is corrupted or attacked is every frame of whole episodes, as the policy is shown them. Frames that scores and
features are taken of are those that the policy comes to see itself.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from common.errors import InputError
from common.evaluation.attacks import Attacker
from common.evaluation.calibration import Calibration, measure_calibration
from common.evaluation.conditions import Condition
from common.evaluation.flatness import flatness
from common.evaluation.information import probe
from common.evaluation.measures import AttackSettings, Cell, Subject
from common.evaluation.unknown import SCORES, detection, odin
from common.losses import kl_divergence
from common.procgen import LOOKS, LevelSet
from common.runs.records import Judged, Record
from kdrl.disturbances import Attacking, Corrupting
from kdrl.episodes import Episodes, See, play_part
from kdrl.game import Part
from kdrl.networks import PolicyLogits
from kdrl.procgen_game import ProcgenSettings
from kdrl.records import rows, score_row
from kdrl.settings import TrainSettings

FRAMES = 512
"""Frames of a part that scores and features are taken of."""
KEPT = 64 * FRAMES
"""Frames, 400 MB, that they are drawn from; more episodes give no more."""
AT_ONCE = 1024
"""Episodes side by side, where each needs an environment of its own."""
WIDTH = 255.0
"""Of a frame's range."""


@dataclasses.dataclass
class PolicySubject(Subject):
    """A policy, and where it is judged.

    Args:
        policy: In eval mode.
        teacher: Its teacher, on the same device, where it had one and that can be had.
        settings: The run's.
        judged: What the records share.
        most: Episodes of each cell.
        seed: Of environments and actions.

    Raises:
        InputError: a run of another game than Procgen's.
    """

    policy: PolicyLogits
    teacher: nn.Module | None
    settings: TrainSettings
    judged: Judged
    most: int
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.settings.env, ProcgenSettings):
            raise InputError(
                f"measures are of Procgen's looks, and this run is of {self.settings.env.game}; leave them"
            )
        env = self.env = self.settings.env
        seen, _, unseen = env.parts([])
        self.parts = [seen, unseen]
        self._frames: dict[tuple[str, str, bool], NDArray[np.uint8]] = {}

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        return next(self.policy.parameters()).device

    def _cell(self, condition: Condition, part: Part, n: int, work: Callable[[], list[Record]]) -> Cell:
        def records() -> list[Record]:
            return [dataclasses.replace(row, n=n, condition=str(condition)) for row in work() if np.isfinite(row.value)]

        return Cell([condition], part.domain(self.settings.env.game), part.seen, self.judged.selection, n, records)

    def _values(self, part: Part, values: Mapping[str, float]) -> list[Record]:
        return [score_row(self.settings, part, metric, value, 0, self.judged) for metric, value in values.items()]

    def _played(self, part: Part, see: See | None = None) -> Episodes:
        return play_part(self.policy, self.settings.env, part, self.most, self.seed, see)

    def _corruptions(self, conditions: Sequence[Condition]) -> Iterator[Cell]:
        for condition in conditions:
            for part in self.parts:

                def work(condition: Condition = condition, part: Part = part) -> list[Record]:
                    see = Corrupting(condition.name, int(condition.strength)) if condition.strength else None
                    return rows(self.settings, part, self._played(part, see).returns, self.judged)

                yield self._cell(condition, part, self.most, work)

    def _attacks(self, settings: AttackSettings) -> Iterator[Cell]:
        for kind in settings.names:
            attacker = Attacker(kind, settings.steps, settings.restarts, high=WIDTH)
            for radius in settings.sweep():
                condition = Condition("attack", settings.name_of(kind), f"{radius:g}")
                for part in self.parts:

                    def work(part: Part = part, radius: float = radius, attacker: Attacker = attacker) -> list[Record]:
                        see = Attacking(self.policy, attacker, radius)
                        played = self._played(part, see)
                        kept = 1 - see.missed / see.frames
                        found = rows(self.settings, part, played.returns, self.judged)
                        return [*found, *self._values(part, {"same_action": kept})]

                    yield self._cell(condition, part, self.most, work)

    def _unknown(self) -> Iterator[Cell]:
        """Frames of other looks and of another game against frames of the training levels."""
        env = self.env
        known = self.parts[0]
        other = "starpilot" if env.game != "starpilot" else "coinrun"
        strange = [(look, dataclasses.replace(env, look=look)) for look in LOOKS if look != env.look]
        strange.append((other, dataclasses.replace(env, game=other)))
        for name, where in strange:

            def work(where: ProcgenSettings = where) -> list[Record]:
                first = self._strangeness(env, known)
                second = self._strangeness(where, Part(where.look, LevelSet.unseen(), seen=False))
                values: dict[str, float] = {}
                for score in first:
                    found = detection(first[score], second[score])
                    values |= {f"{metric}/{score}": value for metric, value in found.items()}
                return self._values(known, values)

            yield self._cell(Condition("unknown", name), known, FRAMES, work)

    def _strangeness(self, env: ProcgenSettings, part: Part) -> dict[str, NDArray[np.float64]]:
        """Score's name → of each frame."""
        frames = self._seen(env, part)
        with torch.no_grad():
            logits = self.policy(frames)
        found = {name: score(logits) for name, score in SCORES.items()}
        found["odin"] = odin(self.policy, frames.float(), high=WIDTH)
        return {name: values.double().cpu().numpy() for name, values in found.items()}

    def _seen(self, env: ProcgenSettings, part: Part) -> Tensor:
        """Frames that the policy comes to see there, ``uint8 [FRAMES, 3, 64, 64]``."""
        place = (env.game, part.variant, part.seen)
        if place not in self._frames:
            watched: list[NDArray[np.uint8]] = []
            every = 4  # neighbours are nearly the same

            def see(observations: NDArray[np.uint8], environments: NDArray[np.intp], step: int) -> Tensor:
                nonlocal every
                if step % every == 0:
                    watched.append(observations.copy())
                    if sum(map(len, watched)) > KEPT:
                        del watched[1::2]
                        every *= 2
                return torch.from_numpy(observations)

            play_part(self.policy, env, part, self.most, self.seed, see)
            frames = np.concatenate(watched)
            drawn = np.random.default_rng(self.seed).permutation(len(frames))[:FRAMES]
            self._frames[place] = frames[drawn]
        return torch.as_tensor(self._frames[place], device=self.device)

    def _analysis(self) -> Iterator[Cell]:
        for part in self.parts:
            yield self._cell(Condition("analysis"), part, self.most, functools.partial(self._analysed, part))
        yield self._cell(Condition("analysis", "features"), self.parts[1], self.most, self._probed)

    def _analysed(self, part: Part) -> list[Record]:
        frames = self._seen(self.env, part)
        with torch.no_grad():
            own = self.policy(frames)

        def away(network: nn.Module) -> float:
            with torch.no_grad():
                return float(kl_divergence(network(frames), own).mean())

        played = self._watched(part)
        values = {"flatness": flatness(self.policy, away), **played}
        if self.teacher is not None:
            with torch.no_grad():
                chosen = self.teacher(frames).argmax(dim=1)
            values["teacher_agreement"] = float((own.argmax(dim=1) == chosen).float().mean())
            values |= (Calibration() + measure_calibration(own, chosen)).scores()
        return self._values(part, values)

    def _watched(self, part: Part) -> dict[str, float]:
        """Rank correlation of an episode's return with how sure the policy was in it, on average."""
        episodes = min(self.most, AT_ONCE)
        sure, count = np.zeros(episodes), np.zeros(episodes)

        def see(observations: NDArray[np.uint8], environments: NDArray[np.intp], step: int) -> Tensor:
            frames = torch.as_tensor(observations, device=self.device)
            with torch.no_grad():
                sure[environments] += self.policy(frames).softmax(dim=1).amax(dim=1).double().cpu().numpy()
            count[environments] += 1
            return frames

        # One environment an episode, so that each frame's episode is known.
        env = dataclasses.replace(self.env, num_envs=episodes)
        played = play_part(self.policy, env, part, episodes, self.seed, see)
        confidence = (sure / count)[played.environments]
        if np.ptp(played.returns) == 0 or np.ptp(confidence) == 0:
            return {}
        return {"confidence_return": float(stats.spearmanr(confidence, played.returns).statistic)}

    def _probed(self) -> list[Record]:
        env = self.env
        places = [*self.parts, *(Part(look, LevelSet.unseen(), seen=False) for look in LOOKS if look != env.look)]
        frames = [self._seen(dataclasses.replace(env, look=part.variant), part) for part in places]
        with torch.no_grad():
            features = torch.cat([self.policy.features(one) for one in frames]).cpu()
            asked = self.policy if self.teacher is None else self.teacher
            actions = torch.cat([asked(one).argmax(dim=1) for one in frames]).cpu()
        domains = torch.cat([torch.full((len(one),), number) for number, one in enumerate(frames)])
        values: dict[str, float] = {}
        for name, wanted in (("labels", actions), ("domains", domains)):
            found = probe(features, wanted)
            if found is not None:
                values |= {f"information/{name}": found.information, f"probe/{name}": found.accuracy}
        return self._values(self.parts[1], values)
