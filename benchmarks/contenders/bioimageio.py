"""bioimageio.core's blockwise prediction, from a described model on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contenders.case import Case, Stack

BLOCK_PX, HALO_PX = 640, 64


def blockwise(case: Case) -> Callable[[Stack, Path], NDArray[np.float32]]:
    """Describe the net, and predict blocks that include their halo."""
    from bioimageio.core import AxisId, MemberId, Sample, Tensor, create_prediction_pipeline

    pipeline = create_prediction_pipeline(_description(case), devices=["cpu"])
    axes = [AxisId(name) for name in ("batch", "channel", "y", "x")]

    def predict(stack: Stack, _: Path) -> NDArray[np.float32]:
        edge = min(BLOCK_PX, stack.input.shape[-1])
        shape = dict(zip(axes, (1, 1, edge, edge), strict=True))
        members = {MemberId("raw"): Tensor(stack.input.numpy(), dims=axes)}
        sample = Sample(members=members, stat={}, id="stack")
        with pipeline:
            done = pipeline.predict_sample_with_fixed_blocking(sample, {MemberId("raw"): shape})
        return np.asarray(done.members[MemberId("logits")].data)

    return predict


def _description(case: Case) -> Any:
    from bioimageio.spec.model import v0_5

    with torch.inference_mode():
        crop = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        expected = case.net()(crop)
    edges = v0_5.ParameterizedSize(min=2 * HALO_PX + 64, step=16)
    inputs = v0_5.InputTensorDescr(
        id=v0_5.TensorId("raw"),
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=[v0_5.Identifier("raw")]),
            *(v0_5.SpaceInputAxis(id=v0_5.AxisId(name), size=edges) for name in "yx"),
        ],
        test_tensor=_test_tensor(case, "input", crop),
    )
    outputs = v0_5.OutputTensorDescr(
        id=v0_5.TensorId("logits"),
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=[v0_5.Identifier("logit")]),
            *(
                v0_5.SpaceOutputAxisWithHalo(
                    id=v0_5.AxisId(name),
                    halo=HALO_PX,
                    size=v0_5.SizeReference(tensor_id=v0_5.TensorId("raw"), axis_id=v0_5.AxisId(name)),
                )
                for name in "yx"
            ),
        ],
        test_tensor=_test_tensor(case, "output", expected),
    )
    weights = v0_5.PytorchStateDictWeightsDescr(
        source=case.weights,
        architecture=v0_5.ArchitectureFromLibraryDescr(
            callable=v0_5.Identifier("UNet"),
            import_from="segem.learn.models.unet",
            kwargs={"features": case.features, "depth": case.options["depth"]},
        ),
        pytorch_version=v0_5.Version(torch.__version__.split("+")[0]),
    )
    return v0_5.ModelDescr(
        name="benchmark",
        inputs=[inputs],
        outputs=[outputs],
        weights=v0_5.WeightsDescr(pytorch_state_dict=weights),
    )


def _test_tensor(case: Case, name: str, values: torch.Tensor) -> Any:
    """Return what a description must carry; it is not used here."""
    from bioimageio.spec.common import FileDescr

    path = case.folder / f"bioimageio-{case.features}-{name}.npy"
    np.save(path, values.numpy())
    return FileDescr(source=path)
