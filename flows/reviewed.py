"""Starts a retraining when enough of a run is reviewed; a server's automation calls it with what the event says."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.retrain import run_steps
from segem.config import TrainConfig
from segem.config.retrain import RetrainConfig
from segem.config.train import TRAIN_MINUTES
from segem.stages.training.retrain import Promotion, open_retraining


@flow(name="retrain-reviewed", flow_run_name="retrain {model} by the review of {run}")
def retrain_reviewed(
    run: str,
    model: str,
    workspace: Path = Path("workspace"),
    minutes: float = TRAIN_MINUTES,
) -> State[Promotion]:
    """Train a new version of a model on what people have reviewed, and put it in use if it does no harm.

    Parameters
    ----------
    run : str
        Name of the run that was reviewed.
    model : str
        Name of the model; the model of the run is what is fine-tuned.
    workspace : Path
        Root of the workspace.
    minutes : float
        Time budget of the training.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    config = RetrainConfig(out=model, from_reviews=run, train=TrainConfig(minutes=minutes))
    return run_steps(open_retraining(None, config, workspace))
