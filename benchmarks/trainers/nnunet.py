"""nnU-Net v2: its own fingerprint, plans, preprocessing, augmentation, net, loss and optimiser, configuration `2d`.

What is changed, because 1000 epochs of 250 steps do not fit:

- the polynomial schedule runs over the share of the budget that is spent, step by step, instead of over epochs;
- the steps are not parted into epochs, and the validation that ends each is left out: it is for show, as nnU-Net takes
  the last weights and not the best.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from segem.io.layers import read_section
from segem.io.volume import Volume
from trainers.course import Course, Part, Predict

ABOUT = "v2, `2d` as it plans by itself, `nnUNetTrainer`, schedule over the budget; last weights, mirrored views"
DATASET, NUMBER = "Dataset001_Membrane", 1
SPACING = {"spacing": (999, 1, 1)}
"""That of any image without one, as nnU-Net's reader of images has it."""


def train(course: Course) -> Predict:
    """Plan, preprocess, train until the budget is spent, and predict with the weights at the end."""
    folders = {name: course.folder / name for name in ("raw", "preprocessed", "results")}
    # nnU-Net reads all these when it is imported or used, here and in the processes it starts.
    os.environ |= {f"nnUNet_{name}": str(folder) for name, folder in folders.items()}
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": str(course.budget.threads)}
    _write_dataset(course, folders["raw"] / DATASET)
    _prepare(course.budget.threads)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    cpu = torch.device("cpu")
    trainer = get_trainer_from_args(DATASET, "2d", 0, device=cpu)
    trainer.on_train_start()
    schedule = PolyLRScheduler(trainer.optimizer, trainer.initial_lr, max_steps=1)
    trainer.network.train()
    course.budget.start()
    time_left = True
    while time_left:
        schedule.step(course.budget.share)
        trainer.train_step(next(trainer.dataloader_train))
        time_left = course.budget.step()
    trainer.on_train_end()
    predictor = nnUNetPredictor(device=cpu, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, use_folds=(0,))

    def predict(volume: Volume, z: int) -> NDArray[np.float32]:
        image = read_section(volume.raw, z)[np.newaxis, np.newaxis].astype(np.float32)
        _, probabilities = predictor.predict_single_npy_array(image, SPACING, save_or_return_probabilities=True)
        probability: NDArray[np.float32] = probabilities[1, 0].astype(np.float32)
        return probability

    return predict


def _write_dataset(course: Course, folder: Path) -> None:
    """Write every section as an image of its own."""
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    cases: dict[Part, list[str]] = {"train": [], "validation": []}
    for part, names in cases.items():
        for volume, images, truth in course.stacks(part):
            for z, image, label in zip(course.numbers(volume, part), images, truth, strict=True):
                names.append(f"{volume}_{z:03d}")
                tifffile.imwrite(folder / "imagesTr" / f"{names[-1]}_0000.tif", image)
                tifffile.imwrite(folder / "labelsTr" / f"{names[-1]}.tif", label)
    described = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "membrane": 1},
        "numTraining": sum(map(len, cases.values())),
        "file_ending": ".tif",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    preprocessed = course.folder / "preprocessed" / DATASET
    preprocessed.mkdir(parents=True, exist_ok=True)
    split = {"train": cases["train"], "val": cases["validation"]}
    (preprocessed / "splits_final.json").write_text(json.dumps([split]))


def _prepare(processes: int) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )

    extract_fingerprints([NUMBER], num_processes=processes)
    plan_experiments([NUMBER])
    preprocess_dataset(NUMBER, configurations=("2d",), num_processes=[processes])
