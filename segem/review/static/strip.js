// The region in the sections before and after, with their masks, beside the stage.

import { getBits } from "./api.js";

export class Strip {
  // `drawCrop(canvas, place, pixels)` draws a square of a section.
  constructor(drawCrop) {
    Object.assign(this, { drawCrop, shown: matchMedia("(min-width: 1100px)").matches, turn: 0 });
    this.element = document.getElementById("strip");
    this.element.hidden = true;
  }

  // Shows the neighbours of a region; nothing where there is no region or the strip is put away.
  async show(place, volume) {
    const turn = (this.turn += 1);
    this.element.hidden = !this.shown || !place;
    if (this.element.hidden) return;
    const sides = [["below", -1], ["above", 1]].map(([name, offset]) => {
      const z = place.z + offset;
      const there = z >= 0 && z < volume.shape[0];
      const canvas = document.getElementById(`strip-${name}`);
      canvas.classList.toggle("none", !there);
      // What was shown there before belongs to another caption.
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      document.getElementById(`strip-caption-${name}`).textContent = there ? `Section ${z}` : `No section ${offset < 0 ? "before" : "after"}`;
      return { name, z, there, canvas };
    });
    const size = Math.max(place.height, place.width);
    for (const { name, z, canvas } of sides.filter(({ there }) => there)) {
      const at = [place.z, place.y, place.x, place.height, place.width].join("/");
      const { pixels, width } = await getBits(`api/neighbour/${name}/${encodeURIComponent(place.volume)}/${at}`);
      if (turn !== this.turn) return;
      const square = new Uint8Array(size * size);
      pixels.forEach((value, i) => { square[Math.floor(i / width) * size + (i % width)] = value; });
      await this.drawCrop(canvas, { z, y: place.y, x: place.x, height: size }, square);
    }
  }
}
