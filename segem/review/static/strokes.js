// Strokes on a mask: which pixels a brush, a polygon or a fill covers. Edges are hard, and whatever the zoom, the same
// movement over the same pixels gives the same mask.

import { flipsWithin } from "./runs.js";

const CELL_PX = 2048;

export class Stroke {
  constructor(mask, value) {
    Object.assign(this, { mask, value, flipped: new Map() });
  }

  set(y, x, value = this.value) {
    const old = this.mask.get(y, x);
    if (old === undefined || old === value) return;
    this.mask.flip(y, x);
    this.flipped.set(y * this.mask.width + x, [y, x]);
  }

  // A round brush of `size` pixels moved from the middle of one pixel to that of another.
  line([y0, x0], [y1, x1], size) {
    const radius = size / 2;
    const most = radius * radius + 1e-6;
    const [dy, dx] = [y1 - y0, x1 - x0];
    const length = dy * dy + dx * dx;
    for (let y = Math.floor(Math.min(y0, y1) - radius); y <= Math.max(y0, y1) + radius; y += 1) {
      for (let x = Math.floor(Math.min(x0, x1) - radius); x <= Math.max(x0, x1) + radius; x += 1) {
        const along = length ? Math.max(0, Math.min(1, ((y - y0) * dy + (x - x0) * dx) / length)) : 0;
        const [ey, ex] = [y - y0 - along * dy, x - x0 - along * dx];
        if (ey * ey + ex * ex <= most) this.set(y, x);
      }
    }
  }

  // All pixels whose middle lies in a polygon, by the even-odd rule, and those of its edges.
  polygon(points) {
    const ys = points.map(([y]) => y);
    for (let y = Math.min(...ys); y <= Math.max(...ys); y += 1) {
      const crossings = [];
      points.forEach(([ay, ax], index) => {
        const [by, bx] = points[(index + 1) % points.length];
        // Beside the middle of the row, so that a corner is crossed once.
        const at = y + 0.25;
        if (ay > at !== by > at) crossings.push(ax + ((at - ay) / (by - ay)) * (bx - ax));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2)
        for (let x = Math.ceil(crossings[i]); x <= crossings[i + 1]; x += 1) this.set(y, x);
    }
    points.forEach((point, index) => this.line(point, points[(index + 1) % points.length], 1));
  }

  // The area of equal pixels around one, by their four neighbours; within a rectangle, where it begins in one of this
  // section. False where it is larger than `most` or not all here.
  fill(y, x, most, region = null) {
    const old = this.mask.get(y, x);
    const isInside = (cy, cx) => cy >= region.y && cx >= region.x && cy < region.y + region.height && cx < region.x + region.width;
    const isBounded = region?.z === this.mask.z && isInside(y, x);
    const waiting = [[y, x]];
    while (waiting.length) {
      const [cy, cx] = waiting.pop();
      if (this.mask.get(cy, cx) !== old || (isBounded && !isInside(cy, cx))) continue;
      this.set(cy, cx, 1 - old);
      if (this.flipped.size > most) return false;
      waiting.push([cy - 1, cx], [cy + 1, cx], [cy, cx - 1], [cy, cx + 1]);
    }
    return true;
  }

  // Leaves to others what they have painted meanwhile as it was painted here, since a pixel has two values.
  concede(changes) {
    for (const [key, [y, x]] of this.flipped)
      if (flipsWithin(changes, { y, x, height: 1, width: 1 })[0]) {
        this.mask.flip(y, x);
        this.flipped.delete(key);
      }
  }

  // Takes everything back.
  cancel() {
    for (const [y, x] of this.flipped.values()) this.mask.flip(y, x);
    this.flipped.clear();
  }

  // What was changed, with the values after it, in rectangles that the server takes.
  changes() {
    const cells = new Map();
    for (const [y, x] of this.flipped.values()) {
      const key = `${Math.floor(y / CELL_PX)}/${Math.floor(x / CELL_PX)}`;
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push([y, x]);
    }
    return [...cells.values()].map((pixels) => {
      let [y0, x0, y1, x1] = [Infinity, Infinity, -Infinity, -Infinity];
      for (const [y, x] of pixels) {
        [y0, x0, y1, x1] = [Math.min(y0, y), Math.min(x0, x), Math.max(y1, y), Math.max(x1, x)];
      }
      const { volume, z } = this.mask;
      const place = { volume: volume.name, z, y: y0, x: x0, height: y1 - y0 + 1, width: x1 - x0 + 1 };
      const flips = new Uint8Array(place.height * place.width);
      for (const [y, x] of pixels) flips[(y - y0) * place.width + x - x0] = 1;
      return { place, flips, after: this.mask.read(place) };
    });
  }
}

// What was changed and is still so, turned back: what others have changed meanwhile stays.
export function inverse(mask, changes) {
  const stroke = new Stroke(mask, 0);
  for (const { place, flips, after } of changes)
    flips.forEach((flip, i) => {
      const [y, x] = [place.y + Math.floor(i / place.width), place.x + (i % place.width)];
      if (flip && mask.get(y, x) === after[i]) stroke.set(y, x, 1 - after[i]);
    });
  return stroke;
}
