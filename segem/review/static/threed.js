// The address of a place in Neuroglancer, which shows it with all layers in three dimensions.

import { getJson } from "./api.js";

const ORANGE = "0.94, 0.59, 0.12";
const SHADERS = {
  image: undefined,
  probability: "void main() { emitRGBA(vec4(0.37, 0.78, 1.0, toNormalized(getDataValue()) * 0.6)); }",
  mask: `void main() { emitRGBA(vec4(${ORANGE}, toRaw(getDataValue()) > 0u ? 0.5 : 0.0)); }`,
};

// Opens a place in a tab of its own; it is made by a link, so that it has no hold on this page.
export async function openThreeD(volume, { z, y, x, scale }) {
  const layers = await getJson(`3d/layers/${encodeURIComponent(volume.name)}`);
  const [nmZ, nmY, nmX] = volume.voxel_nm;
  const base = location.href.replace(/[#?].*/, "").replace(/[^/]*$/, "");
  const state = {
    dimensions: { x: [nmX * 1e-9, "m"], y: [nmY * 1e-9, "m"], z: [nmZ * 1e-9, "m"] },
    // OME-Zarr counts from the middle of the first voxel, the stage from its corner.
    position: [x - 0.5, y - 0.5, z],
    crossSectionScale: 1 / scale,
    projectionScale: 512,
    layout: "4panel",
    layers: layers.map(({ name, kind, key, inside }) => ({
      name,
      type: kind === "segmentation" ? "segmentation" : "image",
      source: `zarr3://${base}3d/volumes/${key}/${inside}`,
      visible: name !== "probability",
      ...(SHADERS[kind] ? { shader: SHADERS[kind], opacity: 1 } : {}),
    })),
  };
  const link = Object.assign(document.createElement("a"), { href: `3d/v/view/index.html#!${encodeURIComponent(JSON.stringify(state))}`, target: "_blank", rel: "noopener" });
  link.click();
}
