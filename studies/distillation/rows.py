"""What is compared: the rows of a TOML file, each a finished run and how it is sampled."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from worldmodel.config import ConfigError, build_config, load_config, read_toml
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.training.runs import load_transformer
from worldmodel.training.train_loop import CONFIG, STATE, UnfinishedError
from worldmodel.worlds.world_folder import WorldFile, sha256_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the tables."""

    title: str
    run: Path  # of any stage that trains a transformer
    sigmas: tuple[float, ...] = ()  # none: the teacher's grid of as many steps as asked for
    renoise: bool = True  # false: follow the velocity, as a teacher does
    holds_actions: bool = (
        False  # a chunk is given its first action only, which is all that play has
    )
    cache_from_last_step: bool = False  # no clean pass: only for runs that were trained so
    stage2: tuple[Path, ...] = ()  # the runs that made it a few-step student
    stage3: tuple[Path, ...] = ()  # and those that went on from there


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """The rows, by name, that the paper's claims are about."""

    frame_wise: str
    chunk_wise: str
    consistency: str  # stage 2 by consistency distillation
    regression: str  # stage 2 by regression on stored trajectories


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything in the TOML file."""

    world: str  # its decoder shows every row's frames; its game is what they are held against
    out: Path  # folder of the figures; the page stands beside it, as OUT.md
    rows: dict[str, Row]
    claims: Claims | None = None
    generalisation: tuple[str, ...] = ()  # rows whose answers to unseen actions are measured
    training_data: Path = Path("data/doom_train")  # what tells seen actions from unseen ones
    shared: tuple[Path, ...] = ()  # runs that several rows build on

    def __post_init__(self) -> None:
        named = set(self.generalisation)
        if self.claims:
            claims = self.claims
            named |= {claims.frame_wise, claims.chunk_wise, claims.consistency, claims.regression}
        if unknown := sorted(named - self.rows.keys()):
            raise ConfigError(f"no row {unknown[0]!r}; there are {', '.join(self.rows)}")
        runs = {run.name: run for run in self.runs}
        if twice := [run for run in self.runs if runs[run.name] != run]:
            raise ConfigError(f"{twice[0]} and {runs[twice[0].name]} have one name; rename one")

    @property
    def runs(self) -> tuple[Path, ...]:
        """All runs that are named anywhere, each once."""
        of_rows = [run for r in self.rows.values() for run in (r.run, *r.stage2, *r.stage3)]
        return tuple(dict.fromkeys((*self.shared, *of_rows)))

    @property
    def page(self) -> Path:
        """The Markdown file with the tables."""
        return self.out.with_suffix(".md")


def read_comparison(path: Path) -> Comparison:
    """The TOML file; the samplers are checked too."""
    comparison = load_config(Comparison, path)
    for name, row in comparison.rows.items():
        if row.sigmas:
            try:
                SamplerConfig(sigmas=row.sigmas, renoise=row.renoise)
            except ConfigError as error:
                raise ConfigError(f"{path}: rows.{name}: {error}") from error
    return comparison


@dataclass(frozen=True, slots=True)
class Contender:
    """A row whose run is here, finished and loaded."""

    name: str
    row: Row
    model: WorldTransformer
    sampler: SamplerConfig
    weights: str  # sha256 of the run's state
    trained_steps: int

    @property
    def passes(self) -> float:
        """Of the network, for one frame."""
        clean = 0 if self.sampler.cache_from_last_step else 1
        return (self.sampler.steps + clean) / self.model.config.chunk_frames


def find_contender(
    name: str, row: Row, world: WorldFile, teacher_steps: int, dtype: torch.dtype
) -> Contender | str:
    """The row, ready to be measured, or why it is not."""
    if not (row.run / CONFIG).is_file() or not (row.run / STATE).is_file():
        return "not run"
    table = read_toml(row.run / CONFIG)
    config = build_config(ModelConfig, table.get("model", {}), f"{row.run / CONFIG}: model")
    if config.latent_shape != world.autoencoder.latent_shape:
        raise ConfigError(
            f"{row.run}: draws latents {config.latent_shape}, {world.name} decodes "
            f"{world.autoencoder.latent_shape}"
        )
    try:
        model = load_transformer(row.run, config).to(dtype=dtype)
    except UnfinishedError:
        return "not finished"
    steps = int(table.get("loop", {}).get("steps", 0))
    sampler = sampler_of(row, world.sampler, teacher_steps)
    return Contender(name, row, model, sampler, sha256_of(row.run / STATE), steps)


def sampler_of(row: Row, played: SamplerConfig, teacher_steps: int) -> SamplerConfig:
    """The row's levels; everything else as the world is played."""
    plain = replace(played, first_sigmas=(), guidance=1.0, cache_from_last_step=False)
    if not row.sigmas:
        return replace(plain, sigmas=tuple(sigma_grid(teacher_steps).tolist()), renoise=False)
    cached = row.cache_from_last_step
    return replace(plain, sigmas=row.sigmas, renoise=row.renoise, cache_from_last_step=cached)
